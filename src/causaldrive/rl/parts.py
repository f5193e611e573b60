"""Which weights reinforcement learning may change.

`speech` (default) changes only what stands after the last layer's keys and values: its query and output projections,
its MLP, the final norm and the language head. The decoder reads keys and values alone, so for given words its input,
and with it the driving by `flow`, stays bit for bit what supervised learning made it; learning changes which words are
chosen, and the driving through them. Driving by `tokens` is spoken, so it changes too, and is learnt with `paths`.
`words` changes the language head alone: the rows of trajectory tokens are barred while text is written and get no
gradient, so without `paths` a student that drives by tokens drives as before too.
`language` changes the whole language model: more reach, but the decoder's input shifts under it, so an anchor of
supervised samples is needed. Vision always stays. Knows nothing of losses.
"""

from __future__ import annotations

from torch import Tensor, nn

from causaldrive.ground.errors import unknown_name
from causaldrive.student.model import CausalDriveModel

PARTS = ("speech", "words", "language")
_BEFORE_CACHE = ("self_attn.k_proj.", "self_attn.v_proj.", "self_attn.k_norm.", "input_layernorm.")
_HEAD = "vlm.lm_head.weight"
_DECODER = ("expert.", "action_in_proj.", "action_out_proj.")


def choose_parts(model: CausalDriveModel, part: str, train_decoder: bool) -> None:
    """Set requires_grad on every parameter. Raises UserError for an unknown part."""
    if part not in PARTS:
        raise unknown_name("part to train", part, PARTS)
    speech = speech_names(model)
    for name, parameter in model.named_parameters():
        is_language = name.startswith(("vlm.model.language_model.", "vlm.lm_head."))
        chosen = {"speech": name in speech, "words": name == _HEAD, "language": is_language}[part]
        parameter.requires_grad_(chosen or (train_decoder and name.startswith(_DECODER)))


def speech_names(model: CausalDriveModel) -> set[str]:
    """Parameters that no key or value of any layer depends on, for given tokens."""
    last = f"vlm.model.language_model.layers.{len(model.vlm.model.language_model.layers) - 1}."
    names = [name for name, _ in model.named_parameters()]
    found = {n for n in names if n.startswith(last) and not n.removeprefix(last).startswith(_BEFORE_CACHE)}
    found |= {n for n in names if n.startswith("vlm.model.language_model.norm.")}
    if model.vlm.lm_head.weight is not model.get_input_embeddings().weight:  # a tied head is the input embedding too
        found |= {n for n in names if n.startswith("vlm.lm_head.")}
    return found


def learnt(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """Values of the learnt parameters now."""
    return {name: parameter.detach().clone() for name, parameter in learnt(model).items()}

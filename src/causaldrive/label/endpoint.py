"""An OpenAI-compatible endpoint: many requests at once, each asked until it is answered or its failure has a name.

What a request needs is taken from the reply cache where it is there. Otherwise it waits for a free place, is paid from
the budget, and is tried again on 429, 5xx, time-out and cut connections with

    wait = max(Retry-After, base * 2^k * (1 + jitter))        k = 0, 1, ... , jitter in [0, 0.25)

Servers differ in what they accept: where one refuses JSON schemas, a temperature or `max_tokens`, the request goes out
again without, and the run remembers. The key is read from an environment variable and kept nowhere else. Knows
nothing of driving.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import openai

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.label.budget import Budget, Purse, StopAsking, Usage
from causaldrive.label.replies import BadReply, find_json
from causaldrive.label.reply_cache import ReplyCache, digest_of

T = TypeVar("T")
FORMATS = ("json_schema", "json_object", "text")
_FATAL = {401: "refused the key", 403: "refused the key", 404: "does not know the model or the path"}
UNANSWERED = ("connection", "rate_limited", "server_error", "timeout")  # kinds of failures that another time may mend
_HOPELESS = 20  # requests that could not connect, before any reply ever came, after which the run stops
_SILENT = 50  # the same for requests that were given up after all tries


@dataclass(frozen=True)
class EndpointConfig:
    """Where a model is asked, how patiently, and for how much."""

    url: str = ""  # base URL up to /v1, e.g. http://localhost:8000/v1
    model: str = ""  # the model's name there
    key_variable: str = "OPENAI_API_KEY"  # environment variable that holds the key; servers without keys need none
    concurrency: int = 16  # requests at once
    timeout_s: float = 120.0  # longest wait for one reply
    retries: int = 5  # tries after the first on 429, 5xx, time-out, cut connection
    backoff_s: float = 1.0  # first wait before another try; doubles
    longest_wait_s: float = 60.0  # longest wait between tries, also where the server asks for more
    reply_format: str = "json_schema"  # json_schema, json_object or text; steps down where the server refuses
    max_tokens: int = 1024  # longest reply, thinking included
    temperature: float = 0.0
    budget_tokens: int = 0  # stop before more tokens than these are used; 0: no limit
    budget_money: float = 0.0  # stop before more money than this is spent, at the prices below; 0: no limit
    price_in: float = 0.0  # money per million prompt tokens
    price_out: float = 0.0  # money per million reply tokens

    def check(self, option: str) -> None:
        """Raises UserError for a setting that cannot work; `option` is the name it goes by on the command line."""
        if not self.model:
            raise UserError(f"no model is named; set --{option}.model to the model's name at {self.url or 'the URL'}.")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--{option}.url is {self.url!r}; a base URL such as http://localhost:8000/v1 expected.")
        if parts.username or parts.password:
            raise UserError(f"--{option}.url holds a user or password; put the key into ${self.key_variable} instead.")
        if self.reply_format not in FORMATS:
            raise unknown_name(f"--{option}.reply-format", self.reply_format, FORMATS)
        for name, least in (("concurrency", 1), ("timeout_s", 0.01), ("retries", 0), ("max_tokens", 1),
                            ("backoff_s", 0), ("longest_wait_s", 0), ("temperature", 0), ("budget_tokens", 0),
                            ("budget_money", 0), ("price_in", 0), ("price_out", 0)):  # fmt: skip
            if not getattr(self, name) >= least:
                found = getattr(self, name)
                raise UserError(f"--{option}.{name.replace('_', '-')} is {found}; at least {least} expected.")
        if self.budget_money and not (self.price_in or self.price_out):
            raise UserError(f"--{option}.budget-money needs prices; set --{option}.price-in and --{option}.price-out.")

    def budget(self) -> Budget:
        """What may be spent here in one run, nothing spent yet."""
        return Budget(self.budget_tokens, self.budget_money, self.price_in, self.price_out)

    @property
    def host(self) -> str:
        """Host and port of the URL: what a label remembers of where it came from."""
        return urlsplit(self.url).netloc

    def deciding(self) -> EndpointConfig:
        """The settings that decide what is asked; the rest may change between a killed run and its continuation."""
        plain = EndpointConfig()
        patience = ("key_variable", "concurrency", "timeout_s", "retries", "backoff_s", "longest_wait_s",
                    "budget_tokens", "budget_money", "price_in", "price_out")  # fmt: skip
        return replace(self, **{name: getattr(plain, name) for name in patience})


@dataclass(frozen=True)
class Request:
    """One thing to ask: messages as the API takes them, the schema of the answer, and the longest reply."""

    messages: tuple[dict[str, Any], ...]
    schema_name: str
    schema: dict[str, Any]
    max_tokens: int
    tag: str = ""  # tells equal requests apart that shall be asked separately: the number of a vote

    def again(self, said: str, fault: BadReply) -> Request:
        """The same once more after a reply that could not be used: told why, and with more room if it was cut."""
        told = f"That reply cannot be used ({fault.reason}). Answer again, with the JSON object only."
        more = ({"role": "assistant", "content": said[:4000]},) if said else ()
        longer = 2 * self.max_tokens if fault.kind == "truncated" else self.max_tokens
        return replace(self, messages=(*self.messages, *more, {"role": "user", "content": told}), max_tokens=longer)


@dataclass(frozen=True)
class Reply:
    """What came back: the text, why it ended, and whether it came from the cache."""

    text: str
    finish_reason: str
    cached: bool


@dataclass
class Counts:
    """Counts of one run: failures by kind, retries by kind, requests sent, replies from the cache, and the usage."""

    failures: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    cached: int = 0
    usage: Usage = field(default_factory=Usage)

    def add(self, other: Counts) -> None:
        """Count another run's share in."""
        self.failures.update(other.failures)
        self.retries.update(other.retries)
        self.requests, self.cached = self.requests + other.requests, self.cached + other.cached
        self.usage = self.usage.plus(other.usage)

    def as_json(self, price_in: float, price_out: float) -> dict[str, Any]:
        """What a run logs and shows of its asking."""
        usage = self.usage
        return {"requests": self.requests, "from_cache": self.cached, "tokens_in": usage.tokens_in,
                "tokens_out": usage.tokens_out, "reply_seconds": round(usage.seconds, 3),
                "money": round(usage.money(price_in, price_out), 6), "failures": dict(sorted(self.failures.items())),
                "retries": dict(sorted(self.retries.items()))}  # fmt: skip


class Endpoint:
    """One endpoint and model. Use as `async with`; `ask` may be called from many tasks at once."""

    def __init__(self, config: EndpointConfig, cache: ReplyCache, budget: Purse):
        self.config, self.cache, self.budget, self.counts = config, cache, budget, Counts()
        self._format, self._limit_name, self._temperature = config.reply_format, "max_tokens", True
        self._free_at, self._unreached, self._given_up, self._jitter = 0.0, 0, 0, random.Random(0)
        self._asking: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def __aenter__(self) -> Endpoint:
        self._places = asyncio.Semaphore(self.config.concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=self.config.url,
            api_key=os.environ.get(self.config.key_variable) or "no-key",
            max_retries=0,  # tries are counted here, by kind
            timeout=self.config.timeout_s,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    async def ask(self, request: Request) -> Reply:
        """The reply to a request, from the cache where it is there. Equal requests at the same time are asked once.

        Raises BadReply when no reply came in all tries; StopAsking when asking on makes no sense.
        """
        key = self.key_of(request)
        stored = self.cache.get(key)
        if stored is not None:
            self.counts.cached += 1
            return _reply(stored, cached=True)
        if key in self._asking:
            return _reply(await asyncio.shield(self._asking[key]), cached=True)
        self._asking[key] = asyncio.get_running_loop().create_future()
        self._asking[key].add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait for it
        try:
            body = await self._send(key, request)
        except BaseException as error:
            waiting = self._asking.pop(key)
            waiting.cancel() if isinstance(error, asyncio.CancelledError) else waiting.set_exception(error)
            raise
        self._asking.pop(key).set_result(body)
        return _reply(body, cached=False)

    def key_of(self, request: Request) -> str:
        """Digest of all that decides the reply."""
        return digest_of(self.config.host, self.config.model, self.config.temperature, self.config.reply_format,
                         request.messages, request.schema, request.max_tokens, request.tag)  # fmt: skip

    async def _send(self, key: str, request: Request) -> dict[str, Any]:
        async with self._places:
            started = time.monotonic()
            body = await self._try(request)
        usage = Budget.usage_of(body, request)
        self.counts.usage = self.counts.usage.plus(usage, time.monotonic() - started)
        self.cache.put(key, self.config.model, self.config.host, request, body)
        return body

    async def _try(self, request: Request) -> dict[str, Any]:
        for attempt in range(self.config.retries + 1):
            await asyncio.sleep(max(self._free_at - time.monotonic(), 0))
            try:
                return await self._paid(request)
            except _Again as failed:
                self._stop_if_hopeless(failed)
                if attempt == self.config.retries:
                    self._stop_if_silent(failed)
                    raise BadReply(failed.kind, f"{failed.reason}, after {attempt + 1} tries") from failed
                self.counts.retries[failed.kind] += 1
                await self._wait(failed, attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _wait(self, failed: _Again, attempt: int) -> None:
        backoff = self.config.backoff_s * 2**attempt * (1 + 0.25 * self._jitter.random())
        wait_s = min(max(failed.wait_s or 0.0, backoff), self.config.longest_wait_s)
        if failed.wait_s is not None:  # the server speaks for everyone who asks it
            self._free_at = max(self._free_at, time.monotonic() + wait_s)
        await asyncio.sleep(wait_s)

    def _stop_if_hopeless(self, failed: _Again) -> None:
        self._unreached += failed.kind == "connection"
        if self._unreached >= _HOPELESS and not self.counts.requests:
            raise StopAsking(f"{self.config.host} cannot be reached ({failed.reason}); check the URL and the server.")

    def _stop_if_silent(self, failed: _Again) -> None:
        self._given_up += 1
        if self._given_up >= _SILENT and not self.counts.requests:
            last = f"the last: {failed.kind}, {failed.reason}"
            raise StopAsking(f"{self.config.host} has answered none of {self._given_up} requests ({last}); check the "
                             "server and run the same command again.")  # fmt: skip

    async def _paid(self, request: Request) -> dict[str, Any]:
        reserved = await self.budget.reserve(request)
        try:
            body = await self._negotiate(request)
            self.budget.settle(reserved, Budget.usage_of(body, request))
            return body
        except BaseException:
            self.budget.settle(reserved, Usage())
            raise

    async def _negotiate(self, request: Request) -> dict[str, Any]:
        """One try; where the server refuses a parameter, again without it. What then works is remembered."""
        how = (self._format, self._limit_name, self._temperature)
        while True:
            try:
                body = await self._post(self._payload(request, *how))
            except _Refused as refused:
                lower = _lower(how, refused.reason)
                if lower is None:
                    raise BadReply("bad_request", refused.reason) from refused
                how = lower
                continue
            self._format, self._limit_name, self._temperature = how
            return body

    def _payload(self, request: Request, form: str, limit_name: str, temperature: bool) -> dict[str, Any]:
        payload: dict[str, Any] = {"model": self.config.model, "messages": list(request.messages)}
        payload[limit_name] = request.max_tokens
        if temperature:
            payload["temperature"] = self.config.temperature
        if form == "json_schema":
            schema = {"name": request.schema_name, "strict": True, "schema": request.schema}
            payload["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form == "json_object":
            payload["response_format"] = {"type": "json_object"}
        return payload

    async def _post(self, payload: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self.config.timeout_s):  # of the whole reply: a server that trickles hangs too
                # As `extra_body` it is sent as it is; as parameters the client would walk through all of it first.
                create = self._client.chat.completions.with_raw_response.create
                answer = await create(model=payload["model"], messages=[], extra_body=payload)
        except (TimeoutError, openai.APITimeoutError) as error:
            raise _Again("timeout", f"no reply within {self.config.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            raise _Again("connection", str(error.__cause__ or error)) from error
        except openai.APIStatusError as error:
            raise self._status_failure(error) from error
        self.counts.requests += 1
        try:
            body = json.loads(answer.text)
            assert isinstance(body["choices"][0]["message"], dict)
        except (ValueError, LookupError, TypeError, AssertionError) as error:
            raise _Again("server_error", f"the body is no chat completion: {answer.text[:80]!r}") from error
        return body

    def _status_failure(self, error: openai.APIStatusError) -> Exception:
        status, said = error.status_code, _said(error)
        if status in _FATAL:
            return StopAsking(f"{self.config.host} {_FATAL[status]} ({status}: {said}); check the URL, the model "
                             f"{self.config.model!r} and the variable {self.config.key_variable}.")  # fmt: skip
        if status == 429 and "insufficient_quota" in said:
            return StopAsking(f"{self.config.host} says that the account has no credit left ({said}); add some.")
        if status == 429:
            return _Again("rate_limited", said, _retry_after_s(error))
        if status >= 500 or status in (408, 409):
            return _Again("server_error", f"{status}: {said}", _retry_after_s(error))
        return _Refused(f"{status}: {said}")


async def converse(endpoint: Endpoint, request: Request, read: Callable[[dict[str, Any]], T], asks: int) -> T:
    """What `read` makes of the JSON answer; a reply that cannot be used is asked for again, `asks` times in all.

    Raises BadReply for the last failure, which is counted by its kind.
    """
    for ask in range(1, asks + 1):
        reply = None
        try:
            reply = await endpoint.ask(request)
            return read(find_json(reply.text))
        except BadReply as failed:
            fault = _as_truncated(failed, reply)
            if ask == asks or reply is None:
                endpoint.counts.failures[fault.kind] += 1
                raise fault from failed
            endpoint.counts.retries[fault.kind] += 1
            request = request.again(reply.text, fault)
    raise AssertionError("the last ask returns or raises")


def _as_truncated(fault: BadReply, reply: Reply | None) -> BadReply:
    """A reply cut at its longest is truncated, whatever could not be read in it."""
    if reply is None or reply.finish_reason != "length" or fault.kind == "outside_closed_sets":
        return fault
    return BadReply("truncated", f"the reply was cut at its longest, {fault.reason}")


class _Again(Exception):
    """A failure that may pass: its kind, and how long the server asks to wait."""

    def __init__(self, kind: str, reason: str, wait_s: float | None = None):
        super().__init__(reason)
        self.kind, self.reason, self.wait_s = kind, reason, wait_s


class _Refused(Exception):
    """The server will not take the request as it is."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def _lower(how: tuple[str, str, bool], reason: str) -> tuple[str, str, bool] | None:
    """What to try after a refusal: without the parameter it names, else with a plainer reply format; None: give up."""
    form, limit_name, temperature = how
    if "max_tokens" in reason and limit_name == "max_tokens" and "max_completion_tokens" in reason:
        return form, "max_completion_tokens", temperature
    if "temperature" in reason and temperature:
        return form, limit_name, False
    if form == FORMATS[-1] or "context" in reason.lower():
        return None
    return FORMATS[FORMATS.index(form) + 1], limit_name, temperature


def _said(error: openai.APIStatusError) -> str:
    """The server's own words, short, on one line."""
    return " ".join(str(error.response.text).split())[:300]


def _retry_after_s(error: openai.APIStatusError) -> float | None:
    """Seconds that `Retry-After` asks for, a number or a date; None where it is absent or makes no sense."""
    value = error.response.headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError):
        return None


def _reply(body: dict[str, Any], cached: bool) -> Reply:
    """The reply of a body. Raises BadReply 'refused' where the model or its filter would not answer."""
    choice = body["choices"][0]
    message, finish = choice["message"], choice.get("finish_reason") or ""
    if message.get("refusal") or finish == "content_filter":
        raise BadReply("refused", str(message.get("refusal") or "stopped by a content filter")[:200])
    text = message.get("content")
    if isinstance(text, list):  # some servers answer in parts
        text = "".join(part.get("text", "") for part in text if isinstance(part, dict))
    return Reply(text if isinstance(text, str) else "", finish, cached)

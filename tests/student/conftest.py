"""One small student for all tests that only read it."""

from __future__ import annotations

import pytest
from student_drives import make_student

from causaldrive.student.model import CausalDriveModel
from causaldrive.student.processor import StudentProcessor


@pytest.fixture(scope="session")
def student() -> tuple[CausalDriveModel, StudentProcessor]:
    return make_student()

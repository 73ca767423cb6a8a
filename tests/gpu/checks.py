"""What must hold on a GPU, each check a row of figures. A check that fails raises."""

from tests.gpu.compiled import check_compiled
from tests.gpu.encoded import check_encoded
from tests.gpu.extraction import check_extraction
from tests.gpu.full_size import check_full_size
from tests.gpu.kernels import check_kernels
from tests.gpu.ranks import check_ranks
from tests.gpu.resume import check_resume
from tests.gpu.spread import check_spread
from tests.gpu.steps import check_losses, check_steps
from tests.gpu.teacher import check_small, check_teacher
from tests.gpu.waiting import check_waiting
from tests.gpu.wide import check_wide

CHECKS = {
    "kernels": check_kernels,
    "extraction": check_extraction,
    "losses": check_losses,
    "encoded": check_encoded,
    "resume": check_resume,
    "steps": check_steps,
    "compiled": check_compiled,
    "waiting": check_waiting,
    "teacher": check_teacher,
    "small": check_small,
    "wide": check_wide,
    "full_size": check_full_size,
    "spread": check_spread,
    "ranks": check_ranks,
}

"""Where the Hydra groups of the toolkit are found."""

from pathlib import Path

from svc.errors import UserError

_PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> Path:
    """The folder `conf/`: inside the installed package, else the one of the checkout.

    It is an absolute path because relative ones fail from console scripts and `pkg://` ones fail
    in editable installs.

    Raises:
        UserError: neither is there, so the installation is broken.
    """
    for candidate in (_PACKAGE / "conf", _PACKAGE.parents[1] / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise UserError(
        f"The configuration folder conf/ is missing from this installation of svc ({_PACKAGE}). "
        f"Install svc again, from its wheel or its source."
    )

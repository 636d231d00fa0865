"""Training that cannot go on."""


class TrainingStopped(Exception):
    """Training failed while working; the message says why and where the last checkpoint is safe.

    Not a `UserError`: no setting was refused, so that commands end with exit code 1.
    """

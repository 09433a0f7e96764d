"""Schedulers of diffusers as noise schedules, and what their networks predict."""

from typing import Any

from ..denoise import Prediction
from ..errors import BadModel
from ..schedule import Schedule, discrete, rectified

PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0", "flow_prediction": "flow"}


def schedule_of(scheduler: Any) -> tuple[Schedule, Prediction, float]:
    """The forward process that a scheduler's network was trained under, what the network predicts, and how its time scales.

    A table of `alphas_cumprod` says all of a process in discrete steps, whatever betas it came from; a flow is a straight line, whose
    time the network receives in steps.

    Raises:
        BadModel: A scheduler of another kind.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if "FlowMatch" in name:
        return rectified(), "flow", float(config.num_train_timesteps)
    predicts = config.get("prediction_type", "epsilon")
    if predicts not in PREDICTIONS:
        raise BadModel(f"a scheduler's network must predict one of {', '.join(PREDICTIONS)}, got {predicts!r}; set prediction_type in scheduler_config.json")
    if not hasattr(scheduler, "alphas_cumprod"):
        raise BadModel(f"{name} has no alphas_cumprod, so its noise levels are not known; save the pipeline with a scheduler such as DDPMScheduler")
    return discrete(scheduler.alphas_cumprod.double()), PREDICTIONS[predicts], 1.0

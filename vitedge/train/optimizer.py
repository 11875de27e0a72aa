"""AdamW with warm-up and cosine decay, which spares what must not be decayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitedge.train.recipe import Recipe


def optimizer(model: Any, recipe: Recipe, steps_per_epoch: int) -> Any:
    """The optimizer of a model, with its learning-rate schedule."""
    import keras

    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    total = recipe.epochs * steps_per_epoch
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, total - warmup),
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )
    adamw = keras.optimizers.AdamW(
        learning_rate=schedule,
        weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.gradient_clip,
    )
    # Only kernels decay: of all else, pulling towards zero has no meaning.
    adamw.exclude_from_weight_decay(
        var_list=[variable for variable in model.trainable_variables if variable.name != "kernel"]
    )
    return adamw

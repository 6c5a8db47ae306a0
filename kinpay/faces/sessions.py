"""ONNX files as functions: one thread each, loaded once, callable from several threads at a time."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.float32]


class Session(Protocol):
    """What we use of onnxruntime's InferenceSession."""

    def run(self, output_names: list[str], input_feed: dict[str, Any]) -> list[Any]:
        """Computes the named outputs."""


def open_session(content: bytes, *, blocked: bool = True) -> Session:
    """A model from its bytes. `blocked`: convolutions may be laid out anew in blocks, which is not faster for every model.

    onnxruntime is taken in here and not at the top, so that commands that look at no face do not wait for it.
    One thread: a server has a core for each request or it has none to spare, and figures are told for one core.
    """
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if blocked else levels.ORT_ENABLE_EXTENDED
    session: Session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session


def softmax(logits: Tensor) -> Tensor:
    """Along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Tensor = powers / powers.sum(axis=-1, keepdims=True)
    return shares

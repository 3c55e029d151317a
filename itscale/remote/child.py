"""Scores samples in another Python environment; run there by path, with nothing but numpy to import.

A message is 4 bytes with the length of a header, the header as JSON, then the bytes of the arrays that it
lists, in order. Nothing is ever unpickled. Requests come on standard input, answers go to what was standard
output when the process started; what libraries print goes to standard error.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import math
import os
import struct
import sys
import traceback
from typing import Any, BinaryIO

import numpy as np

LARGEST_HEADER = 1 << 28
FACTS = ("prompts", "conditions", "meta", "step", "t", "is_final")
KINDS = "biufc"  # dtypes that are plain numbers


def send(stream: BinaryIO, message: dict[str, Any]) -> None:
    """Write a message; arrays may stand anywhere in it."""
    arrays: list[np.ndarray] = []
    header = json.dumps({"message": _without_arrays(message, arrays), "arrays": [_form(a) for a in arrays]})
    data = header.encode()
    stream.write(struct.pack(">I", len(data)))
    stream.write(data)
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any]:
    """Read a message.

    Raises:
        EOFError: if the stream ends before or within it.
        ValueError: if it is no message.
    """
    (length,) = struct.unpack(">I", _exactly(stream, 4))
    if length > LARGEST_HEADER:
        raise ValueError(f"a header of {length} bytes is no message; did something else write here?")
    header = json.loads(_exactly(stream, length))
    arrays = []
    for form in header["arrays"]:
        dtype = np.dtype(form["dtype"])
        if dtype.kind not in KINDS:
            raise ValueError(f"arrays of dtype {dtype} are not taken")
        data = _exactly(stream, dtype.itemsize * math.prod(form["shape"]))
        arrays.append(np.frombuffer(data, dtype).reshape(form["shape"]))
    return _with_arrays(header["message"], arrays)


def _form(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind not in KINDS:
        raise ValueError(f"arrays of dtype {array.dtype} cannot be sent")
    return {"dtype": array.dtype.str, "shape": list(array.shape)}


def _without_arrays(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"__array__": len(arrays) - 1}
    if isinstance(value, dict):
        return {str(k): _without_arrays(v, arrays) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(v, arrays) for v in value]
    return value


def _with_arrays(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"__array__"}:
            return arrays[value["__array__"]]
        return {k: _with_arrays(v, arrays) for k, v in value.items()}
    return [_with_arrays(v, arrays) for v in value] if isinstance(value, list) else value


def _exactly(stream: BinaryIO, length: int) -> bytearray:
    data = bytearray(length)
    view, done = memoryview(data), 0
    while done < length:
        count = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the other side closed the connection")
        done += count
    return data


def load_target(target: str, arguments: dict[str, Any]) -> Any:
    """The callable that ``module:attribute`` or ``file.py:attribute`` names; a class is instantiated."""
    where, _, attribute = target.rpartition(":")
    if where.endswith(".py"):
        sys.path.insert(0, os.path.dirname(os.path.abspath(where)))
        spec = importlib.util.spec_from_file_location("isolated_reward", where)
        if spec is None or spec.loader is None or not os.path.isfile(where):
            raise FileNotFoundError(f"there is no file {where}")
        module = importlib.util.module_from_spec(spec)
        sys.modules["isolated_reward"] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(where)
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part)
    if inspect.isclass(found):
        return found(**arguments)
    return functools.partial(found, **arguments) if arguments else found


def wanted(function: Any) -> list[str]:
    """The facts that a function has parameters for; all of them if it ends in ``**facts``."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return []
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return list(FACTS)
    return [name for name in FACTS if name in parameters]


def in_form(samples: Any, form: str) -> Any:
    """Samples as the reward wants them: ``numpy``, ``torch``, ``pil``, or lists as they are."""
    if not isinstance(samples, np.ndarray) or form == "numpy":
        return samples
    if form == "torch":
        import torch

        return torch.from_numpy(samples.copy())
    from PIL import Image

    pixels = (samples * 255).round().clip(0, 255).astype(np.uint8)
    return [Image.fromarray(image.transpose(1, 2, 0).squeeze()) for image in pixels]


def as_numbers(out: Any, count: int) -> dict[str, Any]:
    """What a reward returned, as an answer: numbers, or a mapping with ``scores`` and ``parts``."""
    if isinstance(out, dict):
        answer: dict[str, Any] = {"scores": _array(out["scores"])}
        if "parts" in out:
            answer["parts"] = {name: _array(part) for name, part in out["parts"].items()}
        answer.update({name: list(out[name]) for name in ("valid", "reasons") if name in out})
    else:
        answer = {"scores": _array(out)}
    scores = answer["scores"]
    if scores.shape == (count, 1) or (count == 1 and scores.shape == ()):
        answer["scores"] = scores.reshape(count)
    return answer  # another number of scores is for the other side to see


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):  # torch, without importing it
        values = values.detach().cpu().float().numpy()
    if isinstance(values, (list, tuple)):
        values = [float(v) for v in values]
    return np.asarray(values, dtype=np.float32)


def versions() -> dict[str, str]:
    """Versions of Python and of what is loaded of the usual libraries."""
    names = ("numpy", "torch", "transformers", "tensorflow", "jax", "open_clip", "timm")
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in names}
    return {"python": sys.version.split()[0], **{k: str(v) for k, v in loaded.items() if v}}


def describe(error: BaseException) -> dict[str, Any]:
    """An error as an answer."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return {"ok": False, "error": lines[-1].strip(), "traceback": "".join(lines)}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Load what the first message names, then answer until the requests end."""
    start = receive(requests)
    try:
        reward = load_target(start["target"], start["arguments"])
        send(answers, {"ok": True, "versions": versions(), "wanted": wanted(reward)})
    except BaseException as error:
        send(answers, describe(error))
        return
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        try:
            samples = in_form(request["samples"], start["form"])
            answer = as_numbers(reward(samples, **request["facts"]), request["count"])
            send(answers, {"ok": True, **answer})
        except Exception as error:
            send(answers, describe(error))


def main() -> None:
    """Keep the two streams to itself and serve."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints from here on, prints to standard error
    sys.stdout = sys.stderr
    requests = sys.stdin.buffer
    sys.stdin = open(os.devnull)  # noqa: SIM115 - for as long as the process lives
    serve(requests, answers)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, whose modules are not the reward's
    main()

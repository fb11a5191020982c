"""A model's configuration as Triton reports it, with checks that name what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2, service_pb2

from headshot.deadline import Deadline
from headshot.errors import ModelContractError
from headshot.triton.endpoints import Endpoint
from headshot.triton.tensors import TensorSpec, datatype_name, dtype_of


@dataclass(frozen=True)
class ModelDescription:
    """Name, tensors (shapes without the batch axis) and parameters of one model."""

    name: str
    max_batch_size: int
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    parameters: Mapping[str, str]

    def common(self) -> tuple[str, int, Mapping[str, str]]:
        """Return the fields that every model's info begins with; the model must batch."""
        self.expect(
            "max_batch_size", "> 0", str(self.max_batch_size), holds=self.max_batch_size > 0
        )
        return self.name, self.max_batch_size, self.parameters

    def expect(self, field: str, expected: str, found: str, *, holds: bool | None = None) -> None:
        """Raise ModelContractError unless `holds` (by default: expected equals found)."""
        if not (expected == found if holds is None else holds):
            raise ModelContractError(
                f"{self.name}: {field} should be {expected}, it is {found}",
                metadata={
                    "model": self.name,
                    "field": field,
                    "expected": expected,
                    "found": found,
                },
            )

    def text(self, key: str) -> str:
        """Return a parameter that must be there."""
        value = self.parameters.get(key, "")
        self.expect(f"parameter {key}", "set", "missing", holds=bool(value))
        return value

    def integer(self, key: str, least: int, most: int) -> int:
        """Return a parameter as an integer in [least, most]."""
        text = self.text(key)
        value = int(text) if text.lstrip("-").isdigit() else None
        self.expect(
            f"parameter {key}",
            f"an integer in [{least}, {most}]",
            text,
            holds=value is not None and least <= value <= most,
        )
        return int(text)

    def number(self, key: str, least: float, most: float) -> float:
        """Return a parameter as a number in [least, most]."""
        text = self.text(key)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        self.expect(
            f"parameter {key}",
            f"a number in [{least:g}, {most:g}]",
            text,
            holds=least <= value <= most,
        )
        return value

    def output(self, name: str) -> TensorSpec:
        """Return an output that must be there and have at least one axis besides the batch."""
        spec = self.outputs.get(name)
        self.expect(
            f"output {name}", "there", "missing", holds=spec is not None and bool(spec.shape)
        )
        return self.outputs[name]

    def expect_input(self, name: str, datatypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
        """Raise ModelContractError unless the input has one of the types and the shape."""
        self._expect_tensor("input", name, self.inputs.get(name), datatypes, shape)

    def expect_output(self, name: str, datatypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
        """Raise ModelContractError unless the output has one of the types and the shape."""
        self._expect_tensor("output", name, self.outputs.get(name), datatypes, shape)

    def _expect_tensor(
        self,
        kind: str,
        name: str,
        spec: TensorSpec | None,
        datatypes: tuple[str, ...],
        shape: tuple[int, ...],
    ) -> None:
        found = f"{datatype_name(spec.dtype)} {list(spec.shape)}" if spec else "missing"
        right = spec is not None and datatype_name(spec.dtype) in datatypes and spec.shape == shape
        self.expect(f"{kind} {name}", f"{' or '.join(datatypes)} {list(shape)}", found, holds=right)


async def ready_models(endpoint: Endpoint, deadline: Deadline) -> frozenset[str]:
    """Return the names of the models that the server can serve now."""
    request = service_pb2.RepositoryIndexRequest(ready=True)
    index = await endpoint.stub.RepositoryIndex(request, timeout=deadline.remaining())
    return frozenset(entry.name for entry in index.models)


async def read_description(endpoint: Endpoint, name: str, deadline: Deadline) -> ModelDescription:
    """Return the configuration of one model."""
    request = service_pb2.ModelConfigRequest(name=name)
    answer = await endpoint.stub.ModelConfig(request, timeout=deadline.remaining())
    return describe(answer.config)


def describe(config: model_config_pb2.ModelConfig) -> ModelDescription:
    """Return a config.pbtxt, as Triton parsed it, in this module's form."""
    return ModelDescription(
        name=config.name,
        max_batch_size=config.max_batch_size,
        inputs={entry.name: _spec(entry) for entry in config.input},
        outputs={entry.name: _spec(entry) for entry in config.output},
        parameters={key: value.string_value for key, value in config.parameters.items()},
    )


def _spec(
    entry: model_config_pb2.ModelInput | model_config_pb2.ModelOutput,
) -> TensorSpec:
    name = model_config_pb2.DataType.Name(entry.data_type)
    return TensorSpec(dtype_of(name), tuple(entry.dims))

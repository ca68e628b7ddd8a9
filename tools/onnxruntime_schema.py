#!/usr/bin/env python3
"""Writes frontends/onnx/src/schema/microsoft.txt, the schemas of operators that ONNX Runtime has besides the standard's.

In: the schemas that the installed `onnxruntime` package registers (1.32.0 made the committed file), and the list of operators below.
Out: the table, in the form of `table.txt`.

    pip install onnx onnxruntime
    python3 tools/onnxruntime_schema.py
"""
import onnxruntime.capi.onnxruntime_pybind11_state as runtime
from onnx_schema import ROOT, SETS, TYPES, types

TABLE = ROOT / "frontends/onnx/src/schema/microsoft.txt"

# Of the domain com.microsoft.
MICROSOFT = """
Attention BiasAdd BiasGelu BiasSoftmax DequantizeLinear DynamicQuantizeMatMul EmbedLayerNormalization FastGelu FusedConv FusedGemm FusedMatMul
FusedMatMulActivation Gelu GridSample GroupNorm Inverse MatMulIntegerToFloat MatMulNBits MultiHeadAttention NhwcMaxPool QGemm QLinearAdd
QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax
QLinearWhere QuantizeLinear QuickGelu SkipLayerNormalization SkipSimplifiedLayerNormalization TransposeMatMul Trilu
""".split()  # fmt: skip

# Of the domain of classical models.
CLASSICAL = "ArrayFeatureExtractor Binarizer LinearRegressor Normalizer Scaler".split()

# Of the default domain, where early versions of the standard had them as experiments, or the runtime has them of its own.
DEFAULT = "Affine Crop ImageScaler ParametricSoftplus ScaledTanh SimplifiedLayerNormalization".split()


def operand(parameter, optional):
    option = str(parameter.option)
    mark = ("*" if parameter.isHomogeneous else "**") if "Variadic" in option else "?" if optional or "Optional" in option else ""
    kind = parameter.typeStr
    if "(" in kind:
        kind = TYPES.get(kind[7:-1], "none")
    return f"{parameter.name.strip('.')}{mark}:{kind}"


def row(schema):
    attributes = sorted(schema.attributes.values(), key=lambda a: a.name)
    found = {
        "in": " ".join(operand(p, i >= schema.min_input) for i, p in enumerate(schema.inputs)),
        "out": " ".join(operand(p, i >= schema.min_output) for i, p in enumerate(schema.outputs)),
        "attr": " ".join(
            f"{a.name}{'!' if a.required else ''}:{str(a.type).rpartition('.')[2]}" for a in attributes
        ),
    }
    for constraint in schema.type_constraints:
        found[constraint.type_param_str] = types(constraint.allowed_type_strs)
    return "; ".join(f"{key} {rest}" for key, rest in found.items() if rest)


def main():
    lines = [
        "# Schemas of operators that ONNX Runtime has besides the standard's. Written by tools/onnxruntime_schema.py: do not edit.",
        "# The form is that of table.txt; `**` is any number of several types.",
    ]
    lines += [f"set {name} {members}" for name, members in SETS.items()]
    found = {}
    for schema in runtime.get_all_operator_schema():
        wanted = {"com.microsoft": MICROSOFT, "ai.onnx.ml": CLASSICAL, "": DEFAULT}.get(schema.domain, [])
        if schema.name in wanted and schema.since_version == 1:
            found[f"{schema.domain}.{schema.name}".lstrip(".")] = row(schema)
    for name in sorted(found):
        lines += [name, f"  1  {found[name]}"]
    TABLE.write_text("\n".join(lines) + "\n")


main()

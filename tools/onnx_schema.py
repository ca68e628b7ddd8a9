#!/usr/bin/env python3
"""Writes frontends/onnx/src/schema/table.txt, the schemas of the operators of ONNX's default domain, and of the others that are read.

In: the schemas of the installed `onnx` package (1.23.2 made the committed file).
Out: the table, or with `--check` an exit status that says whether the committed table is the one that the package gives.

    pip install onnx
    python3 tools/onnx_schema.py [--check]

Departures from the package, each for files that exist and that ONNX Runtime runs, are in `DEPARTURES` and are marked in the
table. Element types that the IR does not have are left out: a value of one is refused before any operator sees it.
"""
import argparse
import pathlib
import sys

import onnx.defs

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "frontends/onnx/src/schema/table.txt"

TYPES = {
    "float16": "f16", "float": "f32", "double": "f64", "bfloat16": "bf16",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64", "bool": "bool",
}  # fmt: skip

# Names of the sets that most operators use; with `+` bf16 is among them.
SETS = {
    "float": "f16 f32 f64",
    "wide": "f16 f32 f64 i32 i64 u32 u64",
    "number": "f16 f32 f64 i8 i16 i32 i64 u8 u16 u32 u64",
    "any": "f16 f32 f64 i8 i16 i32 i64 u8 u16 u32 u64 bool",
    "integer": "i8 i16 i32 i64 u8 u16 u32 u64",
    "index": "i32 i64",
    "byte": "i8 u8",
}

# Operators of other domains that are read, and that ONNX Runtime's table does not have.
OTHERS = {
    ("ai.onnx.ml", "TreeEnsemble"),
    ("ai.onnx.preview", "FlexAttention"),
    ("ai.onnx.preview.training", "Adagrad"),
    ("ai.onnx.preview.training", "Adam"),
    ("ai.onnx.preview.training", "Momentum"),
}

LAYER_NORMALIZATION = "in X:T Scale:T B?:T; out Y:T Mean?:U InvStdDev?:U; attr axis:INT epsilon:FLOAT stash_type:INT"

# Operator: {version: row, or None for a row of the package that is left out}, and why.
DEPARTURES = {
    "LayerNormalization": ({1: f"{LAYER_NORMALIZATION}; T float+; U f32 f64 bf16"}, "older exporters write it so"),
    "ThresholdedRelu": ({1: "in X:T; out Y:T; attr alpha:FLOAT; T float"}, "was an experimental operator"),
    "GroupNormalization": ({18: None}, "18 is deprecated for its per-group scale, and in use"),
    "Constant": ({1: "in; out output:T; attr value!:TENSOR; T any"}, "exporters wrote integers before 9"),
    "BatchNormalization": ({}, "consumed_inputs, which says nothing of inference, may be absent"),
}


def types(strings):
    """The set of element types, under its name if it has one."""
    found = {TYPES[s[7:-1]] for s in strings if s.startswith("tensor(") and s[7:-1] in TYPES}
    for name, members in SETS.items():
        if found == set(members.split()):
            return name
        if found == {*members.split(), "bf16"}:
            return f"{name}+"
    return " ".join(t for t in TYPES.values() if t in found) or "none"


def operand(parameter, optional):
    """`name:type`, with `?` where it may be absent and `*` where there may be several."""
    option = onnx.defs.OpSchema.FormalParameterOption
    several = parameter.option == option.Variadic
    mark = ("*" if parameter.is_homogeneous else "**") if several else "?" if optional or parameter.option == option.Optional else ""
    kind = parameter.type_str
    if "(" in kind:
        kind = TYPES.get(kind[7:-1], "none")
    return f"{parameter.name.strip('.')}{mark}:{kind}"


def pieces(schema):
    """The parts of a row by their keys."""
    required = lambda a: "!" if a.required and a.name != "consumed_inputs" else ""  # noqa: E731
    attributes = sorted(schema.attributes.values(), key=lambda a: a.name)
    inputs = [operand(p, i >= schema.min_input) for i, p in enumerate(schema.inputs)]
    outputs = [operand(p, i >= schema.min_output) for i, p in enumerate(schema.outputs)]
    found = {
        "in": " ".join(inputs),
        "out": " ".join(outputs),
        "attr": " ".join(f"{a.name}{required(a)}:{a.type.name}" for a in attributes),
    }
    for constraint in schema.type_constraints:
        found[constraint.type_param_str] = types(constraint.allowed_type_strs)
    return found


def parse(row):
    return {key: rest for key, _, rest in (piece.strip().partition(" ") for piece in row.split(";"))}


def rows(name, history):
    """The lines of an operator: each gives what differs from the version before it."""
    versions = {s.since_version: None if s.deprecated else pieces(s) for s in history}
    departures, why = DEPARTURES.get(name, ({}, ""))
    for version, row in departures.items():
        if row is None:
            # Deprecated at birth: the definition still stands in the package's history.
            schema = next(s for s in history if s.since_version == version)
            versions[version] = pieces(schema)
        else:
            versions[version] = parse(row)
    yield f"{name}{f'  # {why}' if why else ''}"
    before = {}
    for version, now in sorted(versions.items()):
        if now is None:
            yield f"  {version} removed"
            before = {}
            continue
        gone = [f"{key} -" for key in before if key not in now]
        changed = [f"{key} {rest or '-'}" for key, rest in now.items() if before.get(key, "") != rest]
        if changed or gone or not before:
            yield "  ".join(["", str(version), "; ".join(changed + gone)]).rstrip()
        before = now


def table():
    history = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            history.setdefault(schema.name, []).append(schema)
        elif (schema.domain, schema.name) in OTHERS:
            history.setdefault(f"{schema.domain}.{schema.name}", []).append(schema)
    lines = [
        "# Schemas of the operators of ONNX's default domain, and of those of others that are read. Written by tools/onnx_schema.py: do not edit.",
        "#",
        "# Below each operator, the versions that changed it: inputs, outputs, attributes and the element types of each type",
        "# variable, as far as they differ from the version before; `-` is none. `?` may be absent, `*` is any number, `**` of several",
        "# types, `!` is required; the type `none` is one that the IR does not have.",
    ]
    lines += [f"set {name} {members}" for name, members in SETS.items()]
    for name in sorted(history):
        lines += rows(name, history[name])
    return "\n".join(lines) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="compare with the committed table, write nothing")
    if not arguments.parse_args().check:
        TABLE.write_text(table())
    elif TABLE.read_text() != table():
        sys.exit(f"{TABLE}: expected the table that onnx {onnx.__version__} gives, found another")


if __name__ == "__main__":
    main()

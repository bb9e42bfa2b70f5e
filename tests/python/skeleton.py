"""Modules with the signatures of a source tree and none of its code: functions without bodies, classes with
their fields and the names of their methods. So a contract can be probed on sources that cannot be imported.

Invariant: nothing of the sources is executed but class statements, enumerations' values that are plain
constants, and the decorators staticmethod, classmethod, property and dataclass.
"""

import ast
import dataclasses
import enum
import types


def parameters(arguments):
    """The arguments of a function with every default None and no annotation."""
    bare = ast.arguments(posonlyargs=[ast.arg(a.arg) for a in arguments.posonlyargs],
                         args=[ast.arg(a.arg) for a in arguments.args],
                         vararg=arguments.vararg and ast.arg(arguments.vararg.arg),
                         kwonlyargs=[ast.arg(a.arg) for a in arguments.kwonlyargs],
                         kw_defaults=[d and ast.Constant(None) for d in arguments.kw_defaults],
                         kwarg=arguments.kwarg and ast.arg(arguments.kwarg.arg),
                         defaults=[ast.Constant(None) for _ in arguments.defaults])
    return bare


def function(node):
    kept = [d for d in node.decorator_list
            if isinstance(d, ast.Name) and d.id in ("staticmethod", "classmethod", "property")]
    return ast.FunctionDef(name=node.name, args=parameters(node.args), body=[ast.Pass()], decorator_list=kept,
                           type_params=[])


def class_of(node, known):
    bases = [ast.Name(b.id, ast.Load()) for b in node.bases if isinstance(b, ast.Name) and b.id in known]
    is_data = any("dataclass" in ast.dump(d) for d in node.decorator_list)
    body = []
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body.append(function(item))
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            body.append(ast.AnnAssign(target=item.target, annotation=ast.Name("object", ast.Load()), simple=1,
                                      value=item.value and ast.Constant(None)))
        elif isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant):
            body.append(item)
    decorators = [ast.Name("dataclass", ast.Load())] if is_data else []
    return ast.ClassDef(name=node.name, bases=bases, keywords=[], body=body or [ast.Pass()],
                        decorator_list=decorators, type_params=[])


def module(path, text):
    """A module named `path` with the skeleton of a source file. Names that are assigned become strings."""
    made = types.ModuleType(path)
    made.__path__ = []
    made.__dict__.update({"dataclass": dataclasses.dataclass, "Enum": enum.Enum})
    known = {"Enum"}
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            statement = function(node)
        elif isinstance(node, ast.ClassDef):
            statement = class_of(node, known)
            known.add(node.name)
        elif isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) for t in node.targets):
            for target in node.targets:
                made.__dict__.setdefault(target.id, f"{path}.{target.id}")
            continue
        else:
            continue
        tree = ast.fix_missing_locations(ast.Module(body=[statement], type_ignores=[]))
        exec(compile(tree, path, "exec"), made.__dict__)  # noqa: S102
    return made

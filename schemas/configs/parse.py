"""YAML texts as nodes, which know their lines, and values, with one kind of error."""

from typing import Any

import yaml

from schemas.configs.nodes import check_nodes
from schemas.errors import ConfigError
from schemas.shown import quoted

_DEEPEST = 100  # brackets within each other; the scanner looks a line ahead in time that grows with their square


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with one kind of error; by itself it lets any error of an invalid date or number through."""

    def fetch_flow_collection_start(self, kind: type[yaml.Token]) -> None:
        if self.flow_level >= _DEEPEST:
            raise RecursionError
        super().fetch_flow_collection_start(kind)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            problem = f"{quoted(node.value)} cannot be read: {error}; text stands in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def parse_yaml(text: str, place: str) -> tuple[yaml.Node | None, Any]:
    """The nodes and the value of a YAML text. Raises ConfigError that begins with `place`."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        check_nodes(node, place)
        return node, None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{place} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{place} is nested too deeply, or an alias in it stands within its own anchor") from error
    finally:
        if loader is not None:
            loader.dispose()

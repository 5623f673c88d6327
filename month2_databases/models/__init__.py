"""The order model: in normal forms, as a diagram, as documents, and on a Cassandra ring."""

from month2_databases.models.cassandra import (
    TABLES,
    Line,
    OrderHead,
    OrderTables,
    RingOrder,
    whole_milliseconds,
)
from month2_databases.models.documents import DOCUMENTS
from month2_databases.models.er_diagram import er_diagram
from month2_databases.models.functional_dependencies import (
    Dependency,
    Form,
    Relation,
    closure,
    depends,
    is_lossless,
    keys,
    normal_form,
)
from month2_databases.models.jsonb_cart import HOLDING, JsonbCart
from month2_databases.models.schema import METADATA

__all__ = [
    "DOCUMENTS",
    "HOLDING",
    "METADATA",
    "TABLES",
    "Dependency",
    "Form",
    "JsonbCart",
    "Line",
    "OrderHead",
    "OrderTables",
    "Relation",
    "RingOrder",
    "closure",
    "depends",
    "er_diagram",
    "is_lossless",
    "keys",
    "normal_form",
    "whole_milliseconds",
]

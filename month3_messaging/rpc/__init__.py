"""The inventory call three times: one desk that holds stock, behind REST, gRPC and Thrift.

This door offers what needs neither gRPC nor Thrift. Their two sides stand in `grpc_door`,
`grpc_client`, `thrift_door` and `thrift_client`, for whoever has those packages.
"""

from month3_messaging.rpc.error_codes import rebuilt, told
from month3_messaging.rpc.rest import RestStock, rest_router
from month3_messaging.rpc.stock_desk import Hold, HoldLine, StockCalls, StockDesk

__all__ = [
    "Hold",
    "HoldLine",
    "RestStock",
    "StockCalls",
    "StockDesk",
    "rebuilt",
    "rest_router",
    "told",
]

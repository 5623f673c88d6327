"""etcd's API, version 3, on group 0 of the store: for etcd's own clients, unmodified."""

from month5_kvstore.etcd_api.errors import Code, EtcdError
from month5_kvstore.etcd_api.front import serving_etcd
from month5_kvstore.etcd_api.gateway import gateway_router
from month5_kvstore.etcd_api.member import Member
from month5_kvstore.etcd_api.snapshot_file import unsealed

__all__ = ["Code", "EtcdError", "Member", "gateway_router", "serving_etcd", "unsealed"]

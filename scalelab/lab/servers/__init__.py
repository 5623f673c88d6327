"""Real servers as child processes, without containers: start, probe, break, stop.

Services never import this room; stacks, experiments, tests and the command line do. Everything is
synchronous: these calls wait for processes.
"""

from scalelab.lab.servers.account import stand_in
from scalelab.lab.servers.base import Place, Server
from scalelab.lab.servers.capabilities import capabilities
from scalelab.lab.servers.cassandra import DATA_CENTRE, Cassandra, CassandraRing
from scalelab.lab.servers.chromium import Chromium
from scalelab.lab.servers.consul import Consul
from scalelab.lab.servers.envoy import Envoy
from scalelab.lab.servers.errors import ServerFailed, ServerMissing
from scalelab.lab.servers.etcd import Etcd, EtcdCluster, EtcdGateway
from scalelab.lab.servers.kafka import Kafka
from scalelab.lab.servers.memcached import Memcached
from scalelab.lab.servers.nginx import Nginx
from scalelab.lab.servers.patroni import PatroniNode
from scalelab.lab.servers.patroni_cluster import PatroniCluster
from scalelab.lab.servers.patroni_config import PatroniSettings
from scalelab.lab.servers.pgbouncer import PgBouncer
from scalelab.lab.servers.postgres import Postgres
from scalelab.lab.servers.postgres_cluster import PostgresCluster
from scalelab.lab.servers.postgres_copy import PostgresCopy
from scalelab.lab.servers.prometheus import Prometheus
from scalelab.lab.servers.providers import Capability, ProviderOptions, Providers
from scalelab.lab.servers.rabbitmq import RabbitMQ
from scalelab.lab.servers.redis import Redis
from scalelab.lab.servers.service import Service, ServiceSpec
from scalelab.lab.servers.versitygw import VersityGw
from scalelab.lab.servers.wal_receiver import WalReceiver
from scalelab.lab.servers.zookeeper import ZooKeeper

__all__ = [
    "DATA_CENTRE",
    "Capability",
    "Cassandra",
    "CassandraRing",
    "Chromium",
    "Consul",
    "Envoy",
    "Etcd",
    "EtcdCluster",
    "EtcdGateway",
    "Kafka",
    "Memcached",
    "Nginx",
    "PatroniCluster",
    "PatroniNode",
    "PatroniSettings",
    "PgBouncer",
    "Place",
    "Postgres",
    "PostgresCluster",
    "PostgresCopy",
    "Prometheus",
    "ProviderOptions",
    "Providers",
    "RabbitMQ",
    "Redis",
    "Server",
    "ServerFailed",
    "ServerMissing",
    "Service",
    "ServiceSpec",
    "VersityGw",
    "WalReceiver",
    "ZooKeeper",
    "capabilities",
    "stand_in",
]

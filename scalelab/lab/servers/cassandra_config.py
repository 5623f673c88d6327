"""What a Cassandra node is told: its runtime's flags, cassandra.yaml, and where its log goes.

Small on purpose: three nodes share a laptop. Choices that make a ring of the lab predictable:

    tokens        one a node, evenly spread and fixed, so that all nodes may start at once
    snitch        tells a data centre and a rack by the address: a coordinator then prefers its
                  own replica, always, so "read ONE through node 3" reads what node 3 has
    durability    a write is acknowledged when it is on disk. Cassandra's own default acknowledges
                  first and marks its log every 100 ms: a node killed in between comes back without
                  writes that it had acknowledged, and rests on the other replicas for them
    start         nobody waits for gossip to settle; the probe does, and knows how many there are

Never `cassandra.unsafesystem`: a node killed with it comes back without its schema, for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_OPENED = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.math",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
)
_EXPORTED = (
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
)
_SWITCHES = (
    "-Xms64m",
    "-Xmx256m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # the quick compiler only: half the CPU until the first query
    "-XX:MaxDirectMemorySize=128m",
    "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true",
    "-Djdk.attach.allowAttachSelf=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.maxOrder=9",
    "-Dio.netty.eventLoopThreads=4",
    "-Dcassandra.available_processors=2",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=1000",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dcassandra.consistent.rangemovement=false",
    # Measured at start otherwise, for seconds.
    "-Dcassandra.memtable.row_overhead_size=180",
    "-Dcassandra.memtable_row_overhead_computation_step=100",
    "-Dcassandra.shutdown_announce_in_ms=500",
    "-Dcassandra.migration_delay_ms=0",
    "-Dcassandra.schema_pull_interval_ms=2000",
    # A start on a busy machine is no reason to distrust one's own clock.
    "-Dcassandra.max_local_pause_in_ms=20000",
)
_DEFAULTS = {
    "cluster_name": "lab",
    "num_tokens": "1",
    "auto_bootstrap": "false",
    "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
    "start_native_transport": "true",
    "endpoint_snitch": "RackInferringSnitch",
    "dynamic_snitch": "false",
    "authenticator": "AllowAllAuthenticator",
    "authorizer": "AllowAllAuthorizer",
    "commitlog_sync": "batch",
    "commitlog_segment_size": "4MiB",
    "commitlog_total_space": "64MiB",
    "memtable_heap_space": "32MiB",
    "memtable_offheap_space": "32MiB",
    "key_cache_size": "4MiB",
    "counter_cache_size": "2MiB",
    "file_cache_size": "32MiB",
    "networking_cache_size": "16MiB",
    "concurrent_reads": "8",
    "concurrent_writes": "8",
    "concurrent_counter_writes": "4",
    "concurrent_compactors": "1",
    "native_transport_max_threads": "16",
    "auto_snapshot": "false",
    "disk_access_mode": "standard",
    # Patience of a coordinator with its replicas, for a machine that has other things to do.
    "read_request_timeout": "5s",
    "write_request_timeout": "5s",
    "cas_contention_timeout": "10s",
    "hinted_handoff_enabled": "true",
    "hints_flush_period": "500ms",
}


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node. address, seeds: loopback addresses. token: where its range ends."""

    address: str
    seeds: tuple[str, ...]
    token: int
    cql_port: int
    storage_port: int
    folder: Path
    settings: Mapping[str, str]


def token_of(index: int, nodes: int) -> int:
    """The token of node `index` (0, 1, ...) when `nodes` share the ring evenly."""
    return -(2**63) + (2**64 // nodes) * index + 1


def flags(folder: Path) -> list[str]:
    """The runtime's command line, up to the class path."""
    paths = {
        "cassandra.config": f"file://{folder}/cassandra.yaml",
        "cassandra.storagedir": str(folder),
        "cassandra.logdir": str(folder),
        "logback.configurationFile": f"{folder}/logback.xml",
        "java.io.tmpdir": f"{folder}/tmp",
    }
    return [
        *_SWITCHES,
        *(f"--add-exports={module}=ALL-UNNAMED" for module in _EXPORTED),
        *(f"--add-opens={module}=ALL-UNNAMED" for module in _OPENED),
        *(f"-D{name}={value}" for name, value in paths.items()),
    ]


def yaml(node: NodeConfig) -> str:
    """The text of cassandra.yaml. A setting of the node wins over a default."""
    settings = {
        **_DEFAULTS,
        "initial_token": f"'{node.token}'",
        "listen_address": node.address,
        "rpc_address": node.address,
        "native_transport_port": str(node.cql_port),
        "storage_port": str(node.storage_port),
        "ssl_storage_port": str(node.storage_port + 1),  # never opened: nothing is encrypted here
        "data_file_directories": f"[{node.folder}/data]",
        "commitlog_directory": f"{node.folder}/commitlog",
        "saved_caches_directory": f"{node.folder}/saved_caches",
        "hints_directory": f"{node.folder}/hints",
        "cdc_raw_directory": f"{node.folder}/cdc_raw",
        **node.settings,
    }
    lines = "".join(f"{name}: {value}\n" for name, value in settings.items())
    seeds = ",".join(f"{seed}:{node.storage_port}" for seed in node.seeds)
    return (
        f"{lines}seed_provider:\n"
        "  - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n"
        f'    parameters:\n      - seeds: "{seeds}"\n'
    )


def logback() -> str:
    """The node's log goes to its standard output, which the lab keeps and bounds."""
    return (
        '<configuration><appender name="out" class="ch.qos.logback.core.ConsoleAppender"><encoder>'
        "<pattern>%d{HH:mm:ss.SSS} %-5level [%thread] %logger{0} - %msg%n</pattern>"
        '</encoder></appender><root level="INFO"><appender-ref ref="out"/></root>'
        "</configuration>\n"
    )

"""What this machine can serve, told without installing anything (for the doctor)."""

from __future__ import annotations

from scalelab.lab.servers import (
    etcd,
    java_classes,
    memcached,
    nginx,
    patroni_program,
    pgbackrest,
    pgbouncer,
    postgres_config,
    prometheus,
    rabbitmq,
    redis,
)
from scalelab.lab.servers.account import server_account
from scalelab.lab.servers.cassandra import cassandra_capability
from scalelab.lab.servers.consul import consul_capability
from scalelab.lab.servers.envoy import envoy_capability
from scalelab.lab.servers.java import JAVA, KAFKA, ZOOKEEPER, jars_capability
from scalelab.lab.servers.providers import Capability, Providers
from scalelab.lab.servers.versitygw import versitygw_capability


def capabilities(providers: Providers) -> list[Capability]:
    """For each server the provider that would serve it here. Cost: a few short processes."""
    recipes = (
        postgres_config.RECIPE,
        redis.RECIPE,
        JAVA,
        nginx.RECIPE,
        memcached.RECIPE,
        prometheus.RECIPE,
        pgbouncer.RECIPE,
        pgbackrest.RECIPE,
        etcd.RECIPE,
        etcd.CLIENT_RECIPE,
        rabbitmq.RECIPE,
    )
    rows = [providers.capability(recipe) for recipe in recipes]
    jars = [
        jars_capability(KAFKA, providers),
        jars_capability(java_classes.COMPILER, providers),
        cassandra_capability(providers),
        jars_capability(ZOOKEEPER, providers),
    ]
    patroni = patroni_program.capability(server_account())
    return [
        *rows[:3],
        *jars,
        *rows[3:],
        patroni,
        versitygw_capability(providers),
        envoy_capability(providers),
        consul_capability(providers),
    ]

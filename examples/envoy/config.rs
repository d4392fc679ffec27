//! Envoy's configuration.

use std::net::SocketAddr;

use clap::Args;
use serde_json::{Value, json};

/// How connections come to workers.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Listening {
    /// All workers share one listening socket, instead of one for each by SO_REUSEPORT
    #[arg(long)]
    shared_listener: bool,

    /// Give each worker as many connections as the others, so that one run is like another
    #[arg(long)]
    balanced: bool,
}

/// One listener, which passes every request on to one upstream.
pub(crate) fn config(listener: SocketAddr, upstream: SocketAddr, listening: Listening) -> Value {
    const TYPES: &str = "type.googleapis.com/envoy.extensions.filters";
    json!({ "static_resources": {
        "listeners": [{
            "name": "ingress",
            "address": address(listener),
            "enable_reuse_port": !listening.shared_listener,
            "connection_balance_config": listening.balanced.then(|| json!({ "exact_balance": {} })),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": format!("{TYPES}.network.http_connection_manager.v3.HttpConnectionManager"),
                    "stat_prefix": "ingress",
                    "route_config": { "virtual_hosts": [{
                        "name": "all",
                        "domains": ["*"],
                        "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }],
                    }] },
                    "http_filters": [{
                        "name": "envoy.filters.http.router",
                        "typed_config": { "@type": format!("{TYPES}.http.router.v3.Router") },
                    }],
                },
            }] }],
        }],
        "clusters": [{
            "name": "upstream",
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": "upstream",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(upstream) } }] }],
            },
        }],
    } })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

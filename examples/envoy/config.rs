//! Envoy's configuration.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// One listener, which passes every request on to one upstream. Its workers have one socket each, or
/// `shared_listener`: all the same.
pub(crate) fn config(listener: SocketAddr, upstream: SocketAddr, shared_listener: bool) -> Value {
    const TYPES: &str = "type.googleapis.com/envoy.extensions.filters";
    json!({ "static_resources": {
        "listeners": [{
            "name": "ingress",
            "address": address(listener),
            "enable_reuse_port": !shared_listener,
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

//! Every metric's name, in one list: Prometheus' conventions (base units, `_total` on counters), one word for one thing.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, while the process lives.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counted by bucket.
    Histogram,
}

/// One metric as a scrape names it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// As it is scraped; a histogram's without `_bucket`, `_sum`, `_count`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it tells. Labels in braces.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: Metric = Metric { name: $name, kind: Kind::$kind, help: $help };)*
        #[cfg(test)]
        const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD_INFO: Gauge "witgate_build_info", "Always 1. {version}";
    GENERATION: Gauge "witgate_generation", "Serial number of the generation that is live";
    DRAINING: Gauge "witgate_draining", "1 from the start of a drain";
    WORKERS: Gauge "witgate_workers", "Worker threads";

    LOG_LINES_DROPPED: Counter "witgate_log_lines_dropped_total",
        "Lines of the log that were lost: stderr could not be written, or whoever reads it was too slow";

    ACCESS_LOG_LINES: Counter "witgate_access_log_lines_total", "Lines of the access log that were written";
    ACCESS_LOG_DROPPED: Counter "witgate_access_log_dropped_total",
        "Lines of the access log that were lost: they could not be written, or the writer was too far behind";
    ACCESS_LOG_ERRORS: Counter "witgate_access_log_write_errors_total", "Writes of the access log that failed";

    SPANS: Counter "witgate_spans_total", "Spans that the collector took";
    SPANS_DROPPED: Counter "witgate_spans_dropped_total",
        "Spans that were lost: the collector did not take them, or too many waited";

    CONFIG_RELOADS: Counter "witgate_config_reloads_total",
        "Other configurations that were wanted since the start. {outcome: applied, or refused}";

    REQUESTS: Counter "witgate_requests_total",
        "Requests that ended. {route: empty where none matched; code_class: 1xx to 5xx, or aborted by the client}";
    REQUEST_DURATION: Histogram "witgate_request_duration_seconds",
        "From a request's head to the end of its response. {route}";
    ERRORS: Counter "witgate_errors_total",
        "Responses that the proxy made because it could not do better. {reason: as in x-witgate-error}";

    DOWNSTREAM_CONNECTIONS: Counter "witgate_downstream_connections_total", "Connections accepted from clients";
    DOWNSTREAM_CONNECTIONS_ACTIVE: Gauge "witgate_downstream_connections_active", "Connections of clients that are open";
    DOWNSTREAM_ACCEPT_FAILURES: Counter "witgate_downstream_accept_failures_total", "Accepts that failed";

    DOWNSTREAM_CLIENTS_REFUSED: Counter "witgate_downstream_clients_refused_total",
        "Connections that were closed at once: their client had as many as limits.connections_per_client allows";
    PROXY_HEADERS_REFUSED: Counter "witgate_proxy_protocol_refused_total",
        "Connections that did not begin with a header of the PROXY protocol, where one is required";
    TCP_CONNECTIONS: Counter "witgate_tcp_connections_total",
        "Connections of listeners for TCP that came to an endpoint, or did not. {outcome: opened, or failed}";
    TLS_HANDSHAKES: Counter "witgate_tls_handshakes_total", "TLS handshakes of clients that were done";
    TLS_HANDSHAKES_FAILED: Counter "witgate_tls_handshakes_failed_total",
        "TLS handshakes of clients that failed, or were not done in time";
    TLS_HANDSHAKES_REFUSED: Counter "witgate_tls_handshakes_refused_total",
        "TLS handshakes of clients that were not begun: there were as many as tls.max_handshakes allows";
    TLS_CERTIFICATE_EXPIRY: Gauge "witgate_tls_certificate_expiry_timestamp_seconds",
        "When the first of the listener's certificates to end is no longer valid, in seconds since 1970. {listener}";
    UPGRADES: Counter "witgate_upgrades_total", "Requests behind which the connection went on in another protocol";
    UPGRADES_ACTIVE: Gauge "witgate_upgrades_active", "Connections that go on in another protocol now";

    UPSTREAM_CONNECTIONS: Counter "witgate_upstream_connections_total", "Connections made to endpoints";
    UPSTREAM_CONNECT_FAILURES: Counter "witgate_upstream_connect_failures_total",
        "Connections to endpoints that could not be made";
    UPSTREAM_REUSED: Counter "witgate_upstream_reused_total", "Requests over a connection that was already there";
    UPSTREAM_RETRIES: Counter "witgate_upstream_retries_total", "Tries after the first of a request";
    UPSTREAM_HEDGES: Counter "witgate_upstream_hedges_total",
        "Tries after the first that were begun beside one that went on (retry.hedge)";
    UPSTREAM_RETRIES_REFUSED: Counter "witgate_upstream_retries_refused_total",
        "Tries that were not made because the retry budget was spent";

    MIRROR_REQUESTS: Counter "witgate_mirror_requests_total",
        "Copies of requests to mirrors. {outcome: sent, failed, dropped}";

    ENDPOINT_IN_FLIGHT: Gauge "witgate_endpoint_in_flight", "Requests at an endpoint now. {cluster, endpoint}";
    ENDPOINT_LATENCY: Gauge "witgate_endpoint_latency_seconds",
        "Moving average of the time to the response's head; absent where nothing was measured. {cluster, endpoint}";
    ENDPOINT_REQUESTS: Counter "witgate_endpoint_requests_total", "Tries at an endpoint that ended. {cluster, endpoint}";
    ENDPOINT_FAILURES: Counter "witgate_endpoint_failures_total",
        "Tries at an endpoint that failed or were answered with 5xx. {cluster, endpoint}";
    ENDPOINT_EFFECTIVE_WEIGHT: Gauge "witgate_endpoint_effective_weight",
        "Weight that the endpoint is picked by; 0 takes it out. {cluster, endpoint}";

    ENDPOINT_DRAINING: Gauge "witgate_endpoint_draining", "1 while it takes no new requests. {cluster, endpoint}";
    ENDPOINT_HEALTHY: Gauge "witgate_endpoint_healthy",
        "1 while active checks do not keep it out. {cluster, endpoint}";
    ENDPOINT_CHECKS: Counter "witgate_endpoint_checks_total", "Active checks that ended. {cluster, endpoint}";
    ENDPOINT_CHECK_FAILURES: Counter "witgate_endpoint_check_failures_total",
        "Active checks that failed. {cluster, endpoint}";
    ENDPOINT_EJECTED: Gauge "witgate_endpoint_ejected", "1 while it is ejected. {cluster, endpoint}";
    ENDPOINT_EJECTIONS: Counter "witgate_endpoint_ejections_total", "Ejections. {cluster, endpoint}";
    CLUSTER_PANIC: Gauge "witgate_cluster_panic",
        "1 while too few endpoints are available and all are picked. {cluster}";

    CLUSTER_CONNECTIONS: Gauge "witgate_cluster_connections",
        "Connections that are open or being made, where pool.max_connections limits them. {cluster}";
    CLUSTER_PENDING: Gauge "witgate_cluster_pending",
        "Requests that wait for one of these connections. {cluster}";

    PLUGIN_CALLS: Counter "witgate_plugin_calls_total",
        "Calls of a plugin; a version that becomes live again counts on. {plugin, version, question}";
    PLUGIN_FALLBACKS: Counter "witgate_plugin_fallbacks_total",
        "Native decisions in a plugin's place. {plugin, version, question, reason}";
    PLUGIN_DURATION: Histogram "witgate_plugin_duration_seconds", "Time of a call. {plugin, version, question}";
    PLUGIN_QUARANTINED: Gauge "witgate_plugin_quarantined",
        "1 while the version's circuit is not closed. {plugin, version}";
    PLUGIN_MEMORY: Gauge "witgate_plugin_memory_bytes",
        "Linear memory of the plugin's largest instance. {plugin, version}";
    PLUGIN_BROKEN: Gauge "witgate_plugin_broken", "1 where the active version cannot be used. {plugin}";

    PROCESS_CPU: Counter "process_cpu_seconds_total", "User and system time of the process";
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes", "Resident memory";
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes",
        "Address space; most of it is reserved for plugins and never touched";
    PROCESS_THREADS: Gauge "process_threads", "Threads";
    PROCESS_FDS: Gauge "process_open_fds", "File descriptors that are open";
    PROCESS_MAX_FDS: Gauge "process_max_fds", "File descriptors that may be open";
    PROCESS_START: Gauge "process_start_time_seconds", "When the process started, in seconds since 1970";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for Metric { name, kind, help } in ALL {
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name} is a {kind:?}");
            // OpenMetrics knows a counter by its name without the suffix, beside which no other metric may stand.
            let family = |name: &'static str| name.strip_suffix("_total").unwrap_or(name);
            assert_eq!(ALL.iter().filter(|m| family(m.name) == family(name)).count(), 1, "{name} is there twice");
            assert!(name.starts_with("witgate_") || name.starts_with("process_"), "{name}");
            assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}");
        }
    }
}

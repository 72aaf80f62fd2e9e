//! Load balancers of others before the nodes of a cluster. `scripts/install-peers` installs them.

use std::{
    fmt::Write,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use aesp_sdk::Endpoint;
use anyhow::Context;
use tokio::process::Command;

use crate::{Process, Trio, peers, until};

/// A load balancer in a process of its own, which clients reach as `localhost`.
pub struct Balancer {
    port: u16,
    _process: Process,
}

impl Balancer {
    /// Starts `haproxy` or `envoy`.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn of(kind: &str, trio: &Trio) -> anyhow::Result<Self> {
        match kind {
            "haproxy" => Self::haproxy(trio).await,
            "envoy" => Self::envoy(trio).await,
            _ => anyhow::bail!("no load balancer is called {kind:?}"),
        }
    }

    /// Starts haproxy: connections go through it as they are, to the node with the fewest, and a node whose `/readyz` says no
    /// gets none.
    async fn haproxy(trio: &Trio) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut config = format!(
            "global
  maxconn 4096
defaults
  mode tcp
  timeout connect 1s
  timeout client 300s
  timeout server 300s
  timeout check 1s
  option redispatch
frontend agents
  bind 127.0.0.1:{port}
  default_backend nodes
backend nodes
  balance leastconn
  option httpchk GET /readyz
  default-server check inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
"
        );
        for (number, node) in trio.nodes.iter().enumerate() {
            let probe = node.metrics().port();
            writeln!(config, "  server n{number} {} port {probe}", node.grpc())?;
        }
        let file = trio.site.folder().join("haproxy.cfg");
        fs::write(&file, config)?;
        let mut command = Command::new(peers::haproxy()?);
        command.args(["-W", "-db", "-f"]).arg(file);
        Self::start(trio, command, "haproxy", port).await
    }

    /// Starts envoy: it ends the client's TLS, and each request goes over HTTP/2 to the node with the fewest of those whose
    /// gRPC health service says that it serves.
    async fn envoy(trio: &Trio) -> anyhow::Result<Self> {
        let port = free_port()?;
        let certificate = trio.site.issue(&["node", "balancer", "--host", "localhost"]).await?;
        let mut endpoints = String::new();
        for node in &trio.nodes {
            write!(
                endpoints,
                "
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}",
                node.grpc().port()
            )?;
        }
        let config = ENVOY
            .replace("@PORT@", &port.to_string())
            .replace("@CERTIFICATE@", &certificate.certificate.display().to_string())
            .replace("@KEY@", &certificate.key.display().to_string())
            .replace("@CA@", &trio.site.ca().display().to_string())
            .replace("@ENDPOINTS@", &endpoints);
        let file = trio.site.folder().join("envoy.yaml");
        fs::write(&file, config)?;
        let mut command = Command::new(peers::envoy()?);
        command
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "-c"])
            .arg(file);
        Self::start(trio, command, "envoy", port).await
    }

    async fn start(trio: &Trio, command: Command, name: &str, port: u16) -> anyhow::Result<Self> {
        let mut process = Process::start(command, &trio.site.folder().join(format!("{name}.log")))?;
        let listens = until("the load balancer listens", async || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop)?)
        });
        if let Err(error) = listens.await {
            let ended = process.has_ended();
            return Err(error.context(format!("{name} (ended: {ended}) said: {}", process.log().join("\n"))));
        }
        Ok(Self { port, _process: process })
    }

    /// Returns the endpoint for clients.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        format!("https://localhost:{}", self.port).parse().expect("is an address")
    }
}

fn free_port() -> anyhow::Result<u16> {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(taken.local_addr()?.port())
}

const ENVOY: &str = r#"
static_resources:
  listeners:
  - name: agents
    address: {socket_address: {address: 127.0.0.1, port_value: @PORT@}}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2]
            tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
            tls_certificates:
            - certificate_chain: {filename: "@CERTIFICATE@"}
              private_key: {filename: "@KEY@"}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: agents
          codec_type: HTTP2
          stream_idle_timeout: 0s
          route_config:
            virtual_hosts:
            - name: nodes
              domains: ["*"]
              routes:
              - match: {prefix: "/"}
                route:
                  cluster: nodes
                  timeout: 0s
                  retry_policy: {retry_on: "connect-failure,refused-stream", num_retries: 3}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: nodes
    type: STATIC
    connect_timeout: 1s
    lb_policy: LEAST_REQUEST
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    health_checks:
    - timeout: 1s
      interval: 0.2s
      no_traffic_interval: 0.2s
      unhealthy_threshold: 2
      healthy_threshold: 1
      grpc_health_check: {}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context:
          tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
          validation_context:
            trusted_ca: {filename: "@CA@"}
            match_typed_subject_alt_names:
            - san_type: DNS
              matcher: {exact: localhost}
    load_assignment:
      cluster_name: nodes
      endpoints:
      - lb_endpoints:@ENDPOINTS@
"#;

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What becomes of the connections through a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Open,
    /// Bytes are neither carried nor refused.
    Silent,
    Cut,
}

/// Carries connections to an address until it is told to cut or to silence them.
pub(super) struct Proxy {
    pub(super) at: SocketAddr,
    line: Arc<watch::Sender<Line>>,
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let line = Arc::new(watch::Sender::new(Line::Open));
        let lines = line.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut line = lines.subscribe();
                tokio::spawn(async move {
                    if *line.borrow() != Line::Open {
                        return;
                    }
                    let Ok(mut other) = TcpStream::connect(target).await else { return };
                    let mut socket = socket;
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut socket, &mut other) => {}
                        _ = line.wait_for(|line| *line != Line::Open) => {}
                    }
                    // Held, so that neither side sees an end, until the line is cut or repaired.
                    if *line.borrow() == Line::Silent {
                        line.wait_for(|line| *line != Line::Silent).await.ok();
                    }
                });
            }
        });
        Self { at, line }
    }

    /// Ends every connection, and refuses new ones.
    pub(super) fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }

    /// Carries nothing more on the open connections, without ending them.
    pub(super) fn silence(&self) {
        self.line.send_replace(Line::Silent);
    }

    /// Carries new connections again; the old ones end.
    pub(super) fn repair(&self) {
        self.line.send_replace(Line::Open);
    }
}

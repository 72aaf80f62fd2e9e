use std::net::SocketAddr;

use tokio::net::{TcpListener, UdpSocket};

use super::Error;

/// How many free ports are tried until one is free for both protocols.
const ATTEMPTS: usize = 16;

/// Binds the listener of peers to an address whose port is free for gossip, too; for port 0, to one that is.
pub(crate) async fn listen(at: SocketAddr) -> Result<TcpListener, Error> {
    let mut attempt = 1;
    loop {
        match both(at).await {
            Ok(listener) => return Ok(listener),
            Err(_) if at.port() == 0 && attempt < ATTEMPTS => attempt += 1,
            Err(source) => return Err(Error::Listen { at, source }),
        }
    }
}

async fn both(at: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(at).await?;
    // Gossip binds it again when the incarnation is known.
    drop(UdpSocket::bind(listener.local_addr()?).await?);
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_port_is_free_for_both_protocols() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let at = listener.local_addr().unwrap();
        let gossip = UdpSocket::bind(at).await.unwrap();
        drop(listener);
        assert!(matches!(listen(at).await, Err(Error::Listen { .. })), "the datagrams' port is taken");
        drop(gossip);
        listen(at).await.unwrap();
    }
}

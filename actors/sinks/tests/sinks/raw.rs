//! A server that answers as it is told, well or badly.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What is done with one request.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Answers with these bytes, whole, and closes.
    Answer(String),
    /// Answers with these bytes and closes in the middle.
    Cut(String),
    /// Never answers.
    Hang,
}

impl Deed {
    pub(crate) fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Answer(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}"))
    }
}

/// A request: its head and its body.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// Returns a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One server.
pub(crate) struct Raw {
    pub(crate) port: u16,
    /// What is done with the next requests; then `last` with each.
    deeds: Arc<Mutex<(VecDeque<Deed>, Deed)>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: JoinHandle<()>,
}

impl Raw {
    pub(crate) async fn start(deeds: Vec<Deed>, last: Deed) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let deeds = Arc::new(Mutex::new((VecDeque::from(deeds), last)));
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (next, seen) = (Arc::clone(&deeds), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&next), Arc::clone(&seen)));
            }
        });
        Self { port, deeds, asked, serving }
    }

    /// Answers with this from now on.
    pub(crate) fn mend(&self, last: Deed) {
        *self.deeds.lock().unwrap() = (VecDeque::new(), last);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    deeds: Arc<Mutex<(VecDeque<Deed>, Deed)>>,
    seen: Arc<Mutex<Vec<Asked>>>,
) {
    let Some(asked) = read(&mut stream).await else { return };
    seen.lock().unwrap().push(asked);
    let deed = {
        let mut deeds = deeds.lock().unwrap();
        deeds.0.pop_front().unwrap_or_else(|| deeds.1.clone())
    };
    match deed {
        Deed::Answer(text) => {
            let text = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            stream.write_all(text.as_bytes()).await.ok();
        }
        Deed::Cut(text) => {
            stream.write_all(text.as_bytes()).await.ok();
        }
        Deed::Hang => std::future::pending().await,
    }
    stream.shutdown().await.ok();
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut part = [0; 8_192];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let asked = Asked { head, body: bytes[end + 4..].to_vec() };
            let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
            if asked.body.len() >= length {
                return Some(asked);
            }
        }
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    }
}

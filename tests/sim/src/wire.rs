//! The connection itself, so that an answer can be lost or cut off as networks do it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::lock;

/// What a connection does with the bytes it is given to send.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Open,
    /// Nothing more is sent; the connection breaks at the first attempt.
    Cut,
    /// So many bytes of the next body are sent, then the connection breaks.
    Truncate {
        keep: usize,
        in_body: bool,
    },
}

/// A handle on one connection.
#[derive(Debug, Clone)]
pub(crate) struct Wire(Arc<Mutex<Mode>>);

impl Wire {
    /// Breaks the connection instead of sending the answer.
    pub(crate) fn cut(&self) {
        *lock(&self.0) = Mode::Cut;
    }

    /// Sends the answer's head and `keep` bytes of its body, then breaks the connection.
    pub(crate) fn truncate(&self, keep: usize) {
        *lock(&self.0) = Mode::Truncate {
            keep,
            in_body: false,
        };
    }

    /// How much of `buffer` may be sent now.
    fn allow(&self, buffer: &[u8]) -> io::Result<usize> {
        let mut mode = lock(&self.0);
        match *mode {
            Mode::Open => Ok(buffer.len()),
            Mode::Cut => Err(io::ErrorKind::ConnectionReset.into()),
            Mode::Truncate { keep, in_body } => {
                let head = if in_body {
                    0
                } else {
                    match buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                        None => return Ok(buffer.len()),
                        Some(at) => at + 4,
                    }
                };
                let body = keep.min(buffer.len() - head);
                *mode = match keep - body {
                    0 => Mode::Cut,
                    keep => Mode::Truncate {
                        keep,
                        in_body: true,
                    },
                };
                if head + body == 0 {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Ok(head + body)
            }
        }
    }
}

/// A TCP stream that obeys its [`Wire`].
pub(crate) struct WireStream {
    stream: TcpStream,
    wire: Wire,
}

impl AsyncRead for WireStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for WireStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Asked only once the socket can take bytes: `allow` counts them.
        match self.stream.poll_write_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        match self.wire.allow(buf) {
            Ok(len) => Pin::new(&mut self.stream).poll_write(cx, &buf[..len]),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A listener whose connections can be broken on purpose.
pub(crate) struct WireListener(pub(crate) TcpListener);

impl Listener for WireListener {
    type Io = WireStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // A delayed small packet would show as 40 ms a request; failing to set it is only slow.
        let _ = stream.set_nodelay(true);
        (
            WireStream {
                stream,
                wire: Wire(Arc::new(Mutex::new(Mode::Open))),
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, WireListener>> for Wire {
    fn connect_info(stream: IncomingStream<'_, WireListener>) -> Self {
        stream.io().wire.clone()
    }
}

//! What the proxy can fail with.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", .0.chain())]
    Host(coracle_host_net::Error),
}

impl From<coracle_host_net::Error> for Error {
    fn from(error: coracle_host_net::Error) -> Error {
        Error::Host(error)
    }
}

//! The conversation with the guest: a script goes in, its exit code and output come back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// More output than this is a mistake of the test.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
const CONNECT_EVERY: Duration = Duration::from_millis(10);

/// What a script did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    /// Both outputs.
    pub text: String,
}

/// This side of the port.
pub(crate) struct Agent {
    reader: BufReader<UnixStream>,
}

impl Agent {
    /// Connects to the emulator's side, which may not be there yet.
    pub fn connect(socket: &Path, limit: Duration) -> Result<Self> {
        let end = Instant::now() + limit;
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Ok(Self { reader: BufReader::new(stream) }),
                Err(error) if Instant::now() > end => return Err(error).context("connect to the guest"),
                Err(_) => std::thread::sleep(CONNECT_EVERY),
            }
        }
    }

    /// Waits until the guest listens.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let line = self.line(limit).context("the guest does not start")?;
        ensure!(line == "ready", "the guest said {line:?}");
        Ok(())
    }

    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Outcome> {
        let mut stream = self.reader.get_ref();
        write!(stream, "{}\n{script}", script.len()).context("send a script to the guest")?;
        let line = self.line(limit).context("a script in the guest does not end")?;
        let (code, length) = line.split_once(' ').with_context(|| format!("the guest said {line:?}"))?;
        let (code, length): (i32, u64) = (code.parse()?, length.trim().parse()?);
        ensure!(length <= OUTPUT_BYTES_MAX, "a script in the guest printed {length} bytes");
        let mut text = Vec::new();
        (&mut self.reader).take(length).read_to_end(&mut text)?;
        Ok(Outcome { code, text: String::from_utf8_lossy(&text).into_owned() })
    }

    fn line(&mut self, limit: Duration) -> Result<String> {
        self.reader.get_ref().set_read_timeout(Some(limit))?;
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => bail!("it has ended"),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => bail!("nothing came in {limit:?}"),
            Err(error) => Err(error.into()),
        }
    }
}

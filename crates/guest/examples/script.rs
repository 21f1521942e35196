//! Runs a shell script in an emulated guest, for trying things by hand:
//! `cargo run -p coracle-guest --example script -- SCRIPT [SOURCE:TARGET]...`

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use coracle_guest::{File, Guest, Options};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let script = arguments.next().context("usage: script SCRIPT [SOURCE:TARGET]...")?;
    let files = arguments.map(|pair| {
        let (source, target) = pair.split_once(':').context("SOURCE:TARGET")?;
        Ok(File { source: source.into(), target: target.to_owned() })
    });
    let options = Options { files: files.collect::<Result<_>>()?, ..Options::default() };
    let begin = Instant::now();
    let guest = Guest::start(&options)?;
    eprintln!("up after {:?}", begin.elapsed());
    let text = std::fs::read_to_string(&script).with_context(|| script.clone())?;
    let outcome = guest.run(&text, Duration::from_secs(600))?;
    print!("{}", outcome.text);
    eprintln!("exit {} after {:?}", outcome.code, begin.elapsed());
    Ok(())
}

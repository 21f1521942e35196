//! Writes the seeds of every target into `FOLDER/TARGET`, where the fuzzer finds them.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus".to_owned()));
    for (name, _) in coracle_hostile::TARGETS {
        let own = folder.join(name);
        std::fs::create_dir_all(&own)?;
        for (number, seed) in coracle_hostile::corpus::seeds(name).iter().enumerate() {
            std::fs::write(own.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}

//! Flags of the API server, under upstream's names.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use coracle_supervisor::ApiOptions;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "API server")]
pub struct ApiFlags {
    /// Which resources are encrypted on disk, and how (EncryptionConfiguration). Read again when it changes. Without
    /// it, secrets are encrypted with a key of the cluster's own.
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
}

impl ApiFlags {
    pub fn options(&self) -> Result<ApiOptions> {
        let file = |path: &Option<PathBuf>| path.as_deref().map(crate::up::absolute).transpose();
        Ok(ApiOptions { encryption_provider_config: file(&self.encryption_provider_config)? })
    }
}

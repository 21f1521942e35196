//! Certificates, kubeconfigs, reset.

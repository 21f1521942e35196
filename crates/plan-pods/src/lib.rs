//! What a kubelet does next for a pod.

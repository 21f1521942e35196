//! Service rules on the node.

//! Pod network of the node.

//! Schemas of the kinds: decode, default, prune, protobuf, OpenAPI.

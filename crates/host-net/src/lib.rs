//! Links, routes and nftables over netlink.

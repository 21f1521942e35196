//! Object metadata, identifiers, selectors, quantities and Status errors.

//! The manager of a request that names none.

/// `FieldManagerMaxLength` upstream.
const MANAGER_BYTES_MAX: usize = 128;

/// The `fieldManager` of the request, or the first part of its user agent.
#[must_use]
pub fn manager_of(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let mut manager = String::new();
    let prefix = user_agent.split('/').next().unwrap_or_default();
    for character in prefix.chars().filter(|character| !character.is_control()) {
        if manager.len() + character.len_utf8() > MANAGER_BYTES_MAX {
            break;
        }
        manager.push(character);
    }
    manager
}

//! Errors of compiling and of evaluating, in cel-go's words.

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Byte offset in the source.
    pub at: usize,
    pub text: String,
}

/// Why an expression does not compile. `Display` gives `ERROR: <input>:1:5: ...` with the line and a mark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render())]
pub struct CompileError {
    pub source_text: String,
    pub issues: Vec<Issue>,
}

impl CompileError {
    fn render(&self) -> String {
        let texts: Vec<String> = self.issues.iter().map(|issue| self.render_issue(issue)).collect();
        texts.join("\n")
    }

    fn render_issue(&self, issue: &Issue) -> String {
        let before = self.source_text.get(..issue.at).unwrap_or(&self.source_text);
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(start..).unwrap_or_default().chars().count();
        let text = self.source_text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
        let mark = format!("{}^", ".".repeat(column));
        format!("ERROR: <input>:{line}:{}: {}\n | {text}\n | {mark}", column + 1, issue.text)
    }
}

/// Why evaluation gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The call cost more than allowed; nothing absorbs this.
    #[error("operation cancelled: actual cost limit exceeded")]
    Cost,
    #[error("no such overload")]
    Overload,
    #[error("no such key: {0}")]
    NoKey(String),
    #[error("no such attribute(s): {0}")]
    NoAttribute(String),
    #[error("index out of bounds: {0}")]
    Index(i64),
    #[error("division by zero")]
    DivideByZero,
    #[error("modulus by zero")]
    ModulusByZero,
    #[error("integer overflow")]
    Overflow,
    #[error("{0}")]
    Other(String),
}

impl EvalError {
    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }
}

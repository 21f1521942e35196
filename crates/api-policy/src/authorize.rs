//! `authorizer` in expressions.

use std::{fmt, sync::Arc};

use coracle_api_cel::{EvalError, Host, Meter, Val};

use crate::Request;

/// What an expression asks: may the user, or a service account, do this?
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Namespace and name of the service account to ask for, where it is not the user.
    pub service_account: Option<(String, String)>,
    /// For URLs that are no resources.
    pub path: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub verb: String,
}

/// Answers: whether, and why.
pub type Ask<'a> = &'a (dyn Fn(&Query) -> (bool, String) + Sync);

/// Cost of asking.
const CHECK_COST: u64 = 350_000;

pub(crate) fn authorizer<'a>(ask: Ask<'a>, request: &Request<'_>) -> Val<'a> {
    let own = Query {
        group: request.resource.group.clone(),
        resource: request.resource.resource.clone(),
        subresource: request.subresource.to_owned(),
        namespace: request.namespace.to_owned(),
        name: request.name.to_owned(),
        ..Query::default()
    };
    Val::Host(Arc::new(Builder { ask: Asker(ask), query: Query::default(), own: Some(own), answer: None }))
}

#[derive(Clone, Copy)]
struct Asker<'a>(Ask<'a>);

impl fmt::Debug for Asker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("authorizer")
    }
}

#[derive(Debug, Clone)]
struct Builder<'a> {
    ask: Asker<'a>,
    query: Query,
    /// The resource of the request, for `authorizer.requestResource`.
    own: Option<Query>,
    answer: Option<(bool, String)>,
}

impl<'a> Host<'a> for Builder<'a> {
    fn field(&self, name: &str, _: &mut Meter) -> Result<Val<'a>, EvalError> {
        match (name, &self.own) {
            ("requestResource", Some(own)) => {
                Ok(Val::Host(Arc::new(Self { query: own.clone(), own: None, ..self.clone() })))
            }
            _ => Err(EvalError::NoKey(name.to_owned())),
        }
    }

    fn call(&self, name: &str, args: &[Val<'a>], meter: &mut Meter) -> Result<Val<'a>, EvalError> {
        let text = |index: usize| match args.get(index) {
            Some(Val::Str(text)) => Ok(text.to_string()),
            _ => Err(EvalError::Overload),
        };
        if let Some((allowed, reason)) = &self.answer {
            return match name {
                "allowed" => Ok(Val::Bool(*allowed)),
                "reason" => Ok(Val::Str(reason.clone().into())),
                "errored" => Ok(Val::Bool(false)),
                "error" => Ok(Val::Str("".into())),
                _ => Err(EvalError::Overload),
            };
        }
        let mut next = self.clone();
        next.own = None;
        let query = &mut next.query;
        match name {
            "path" => query.path = text(0)?,
            "group" => query.group = text(0)?,
            "resource" => query.resource = text(0)?,
            "subresource" => query.subresource = text(0)?,
            "namespace" => query.namespace = text(0)?,
            "name" => query.name = text(0)?,
            "serviceAccount" => query.service_account = Some((text(0)?, text(1)?)),
            "fieldSelector" | "labelSelector" => {}
            "check" => {
                query.verb = text(0)?;
                meter.charge(CHECK_COST)?;
                next.answer = Some((self.ask.0)(&next.query));
            }
            _ => return Err(EvalError::Overload),
        }
        Ok(Val::Host(Arc::new(next)))
    }
}

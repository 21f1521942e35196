//! Calls on the objects of one resource.

use std::marker::PhantomData;

use bytes::Bytes;
use coracle_api_meta::{Gvr, Value};
use coracle_api_types::{Object, ObjectList};
use http::Method;

use crate::client::build;
use crate::params::Query;
use crate::{Client, DeleteParams, ListParams, Patch, PatchParams, Result, WatchStream, WriteParams};

const JSON: &str = "application/json";
/// Objects asked for at once when a whole list is read.
const CHUNK_OBJECTS: u32 = 500;

/// Any resource, as JSON trees.
#[derive(Clone)]
pub struct DynamicApi {
    client: Client,
    gvr: Gvr,
    /// `None` for cluster scope and for all namespaces.
    namespace: Option<String>,
}

impl DynamicApi {
    /// Cluster-scoped objects, or those of all namespaces.
    #[must_use]
    pub fn all(client: &Client, gvr: &Gvr) -> Self {
        Self { client: client.clone(), gvr: gvr.clone(), namespace: None }
    }

    /// An empty namespace stands for all.
    #[must_use]
    pub fn namespaced(client: &Client, gvr: &Gvr, namespace: &str) -> Self {
        let namespace = Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty());
        Self { client: client.clone(), gvr: gvr.clone(), namespace }
    }

    #[must_use]
    pub fn gvr(&self) -> &Gvr {
        &self.gvr
    }

    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Path of the collection, of an object, or of its subresource.
    #[must_use]
    pub fn path(&self, name: &str, subresource: &str) -> String {
        let mut path = self.gvr.root_path();
        if let Some(namespace) = &self.namespace {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        for part in [&self.gvr.resource, name, subresource] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        path
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Bytes> {
        self.client.call(method, &format!("{path}{}", query.as_str()), content_type, body).await
    }

    pub async fn get(&self, name: &str) -> Result<Bytes> {
        self.get_subresource(name, "").await
    }

    pub async fn get_subresource(&self, name: &str, subresource: &str) -> Result<Bytes> {
        self.call(Method::GET, &self.path(name, subresource), &Query::default(), "", Vec::new()).await
    }

    /// One answer, as asked for.
    pub async fn list_page(&self, params: &ListParams) -> Result<Bytes> {
        self.call(Method::GET, &self.path("", ""), &params.query(), "", Vec::new()).await
    }

    /// Every object, read in chunks.
    pub async fn list(&self, params: &ListParams) -> Result<Vec<Value>> {
        let mut params = ListParams { limit: CHUNK_OBJECTS, ..params.clone() };
        let mut items = Vec::new();
        loop {
            let page: Value = serde_json::from_slice(&self.list_page(&params).await?)?;
            items.extend(page.get("items").and_then(Value::as_array).cloned().unwrap_or_default());
            let token = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default();
            if token.is_empty() {
                return Ok(items);
            }
            token.clone_into(&mut params.continue_token);
            params.resource_version.clear();
            params.resource_version_match.clear();
        }
    }

    pub async fn create(&self, object: Vec<u8>, params: &WriteParams) -> Result<Bytes> {
        self.call(Method::POST, &self.path("", ""), &params.query(), JSON, object).await
    }

    pub async fn create_subresource(&self, name: &str, subresource: &str, object: Vec<u8>) -> Result<Bytes> {
        self.call(Method::POST, &self.path(name, subresource), &Query::default(), JSON, object).await
    }

    pub async fn update(&self, name: &str, subresource: &str, object: Vec<u8>, params: &WriteParams) -> Result<Bytes> {
        self.call(Method::PUT, &self.path(name, subresource), &params.query(), JSON, object).await
    }

    pub async fn patch(&self, name: &str, subresource: &str, patch: &Patch, params: &PatchParams) -> Result<Bytes> {
        let path = self.path(name, subresource);
        self.call(Method::PATCH, &path, &params.query(), patch.content_type(), patch.body()).await
    }

    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<Bytes> {
        self.call(Method::DELETE, &self.path(name, ""), &Query::default(), JSON, params.body()).await
    }

    pub async fn delete_collection(&self, params: &DeleteParams, list: &ListParams) -> Result<Bytes> {
        self.call(Method::DELETE, &self.path("", ""), &list.query(), JSON, params.body()).await
    }

    /// Changes after `params.resource_version`, with bookmarks.
    pub async fn watch(&self, params: &ListParams) -> Result<WatchStream> {
        let mut query = params.query();
        query.add("watch", "true");
        query.add("allowWatchBookmarks", "true");
        let path = format!("{}{}", self.path("", ""), query.as_str());
        let response = self.client.send(build(Method::GET, &path, "", Vec::new())?).await?;
        Ok(WatchStream::new(response.into_body()))
    }
}

/// A built-in resource, as types.
pub struct Api<K> {
    dynamic: DynamicApi,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self { dynamic: self.dynamic.clone(), kind: PhantomData }
    }
}

impl<K: Object> Api<K> {
    /// Cluster-scoped objects, or those of all namespaces.
    #[must_use]
    pub fn all(client: &Client) -> Self {
        Self { dynamic: DynamicApi::all(client, &gvr::<K>()), kind: PhantomData }
    }

    /// An empty namespace stands for all.
    #[must_use]
    pub fn namespaced(client: &Client, namespace: &str) -> Self {
        Self { dynamic: DynamicApi::namespaced(client, &gvr::<K>(), namespace), kind: PhantomData }
    }

    /// The same resource without types.
    #[must_use]
    pub fn dynamic(&self) -> &DynamicApi {
        &self.dynamic
    }

    pub async fn get(&self, name: &str) -> Result<K> {
        Ok(K::from_slice(&self.dynamic.get(name).await?)?)
    }

    /// `None` when there is no such object.
    pub async fn get_opt(&self, name: &str) -> Result<Option<K>> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One answer, as asked for.
    pub async fn list_page(&self, params: &ListParams) -> Result<ObjectList<K>> {
        Ok(ObjectList::from_slice(&self.dynamic.list_page(params).await?)?)
    }

    /// Every object, read in chunks; the resource version is the first chunk's.
    pub async fn list(&self, params: &ListParams) -> Result<ObjectList<K>> {
        let mut params = ListParams { limit: CHUNK_OBJECTS, ..params.clone() };
        let mut whole = self.list_page(&params).await?;
        while !whole.continue_token.is_empty() {
            params.continue_token = std::mem::take(&mut whole.continue_token);
            params.resource_version.clear();
            params.resource_version_match.clear();
            let page = self.list_page(&params).await?;
            whole.items.extend(page.items);
            whole.continue_token = page.continue_token;
        }
        Ok(whole)
    }

    pub async fn create(&self, object: &K) -> Result<K> {
        self.create_with(object, &WriteParams::default()).await
    }

    pub async fn create_with(&self, object: &K, params: &WriteParams) -> Result<K> {
        Ok(K::from_slice(&self.dynamic.create(object.to_vec(), params).await?)?)
    }

    pub async fn update(&self, object: &K) -> Result<K> {
        self.put(object, "").await
    }

    pub async fn update_status(&self, object: &K) -> Result<K> {
        self.put(object, "status").await
    }

    async fn put(&self, object: &K, subresource: &str) -> Result<K> {
        let params = WriteParams::default();
        Ok(K::from_slice(&self.dynamic.update(object.name(), subresource, object.to_vec(), &params).await?)?)
    }

    pub async fn patch(&self, name: &str, patch: &Patch, params: &PatchParams) -> Result<K> {
        Ok(K::from_slice(&self.dynamic.patch(name, "", patch, params).await?)?)
    }

    pub async fn patch_status(&self, name: &str, patch: &Patch, params: &PatchParams) -> Result<K> {
        Ok(K::from_slice(&self.dynamic.patch(name, "status", patch, params).await?)?)
    }

    /// Succeeds also when the object stays for its finalizers or its grace period.
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<()> {
        self.dynamic.delete(name, params).await.map(drop)
    }

    pub async fn delete_collection(&self, params: &DeleteParams, list: &ListParams) -> Result<()> {
        self.dynamic.delete_collection(params, list).await.map(drop)
    }
}

fn gvr<K: Object>() -> Gvr {
    Gvr::new(K::GROUP, K::VERSION, K::PLURAL)
}

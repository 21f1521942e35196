//! One row per served resource: what discovery, routing and clients need to know. Rows are in discovery order.
//! Source: Kubernetes 1.36 discovery.

/// A resource of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// Plural, as in paths.
    pub plural: &'static str,
    pub kind: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// Alpha and beta versions are served only on request.
    pub served_by_default: bool,
}

/// A subresource, such as `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource {
    pub name: &'static str,
    pub kind: &'static str,
    /// `autoscaling/v1` where the kind is of another group or version than the resource; else empty.
    pub kind_group_version: &'static str,
    pub verbs: &'static [&'static str],
}

/// The row of a resource.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    CATALOGUE.iter().find(|row| row.plural == plural && row.version == version && row.group == group)
}

/// The row that serves a kind.
#[must_use]
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    CATALOGUE.iter().find(|row| row.kind == kind && row.version == version && row.group == group)
}

impl Resource {
    #[must_use]
    pub fn gvr(&self) -> coracle_api_meta::Gvr {
        coracle_api_meta::Gvr::new(self.group, self.version, self.plural)
    }

    #[must_use]
    pub fn gvk(&self) -> coracle_api_meta::Gvk {
        coracle_api_meta::Gvk::new(self.group, self.version, self.kind)
    }

    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }
}

#[rustfmt::skip]
pub static CATALOGUE: &[Resource] = &[
    Resource { group: "", version: "v1", plural: "bindings", kind: "Binding", singular: "binding", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create"], served_by_default: true, subresources: &[] },
    Resource { group: "", version: "v1", plural: "componentstatuses", kind: "ComponentStatus", singular: "componentstatus", short_names: &["cs"], categories: &[], namespaced: false,
        verbs: &["get", "list"], served_by_default: true, subresources: &[] },
    Resource { group: "", version: "v1", plural: "configmaps", kind: "ConfigMap", singular: "configmap", short_names: &["cm"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "", version: "v1", plural: "endpoints", kind: "Endpoints", singular: "endpoints", short_names: &["ep"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "", version: "v1", plural: "events", kind: "Event", singular: "event", short_names: &["ev"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "", version: "v1", plural: "limitranges", kind: "LimitRange", singular: "limitrange", short_names: &["limits"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "", version: "v1", plural: "namespaces", kind: "Namespace", singular: "namespace", short_names: &["ns"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "finalize", kind: "Namespace", kind_group_version: "", verbs: &["update"] },
        Subresource { name: "status", kind: "Namespace", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "", version: "v1", plural: "nodes", kind: "Node", singular: "node", short_names: &["no"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "proxy", kind: "NodeProxyOptions", kind_group_version: "", verbs: &["create", "delete", "get", "patch", "update"] },
        Subresource { name: "status", kind: "Node", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "", version: "v1", plural: "persistentvolumeclaims", kind: "PersistentVolumeClaim", singular: "persistentvolumeclaim", short_names: &["pvc"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "PersistentVolumeClaim", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "", version: "v1", plural: "persistentvolumes", kind: "PersistentVolume", singular: "persistentvolume", short_names: &["pv"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "PersistentVolume", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "", version: "v1", plural: "pods", kind: "Pod", singular: "pod", short_names: &["po"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "attach", kind: "PodAttachOptions", kind_group_version: "", verbs: &["create", "get"] },
        Subresource { name: "binding", kind: "Binding", kind_group_version: "", verbs: &["create"] },
        Subresource { name: "ephemeralcontainers", kind: "Pod", kind_group_version: "", verbs: &["get", "patch", "update"] },
        Subresource { name: "eviction", kind: "Eviction", kind_group_version: "policy/v1", verbs: &["create"] },
        Subresource { name: "exec", kind: "PodExecOptions", kind_group_version: "", verbs: &["create", "get"] },
        Subresource { name: "log", kind: "Pod", kind_group_version: "", verbs: &["get"] },
        Subresource { name: "portforward", kind: "PodPortForwardOptions", kind_group_version: "", verbs: &["create", "get"] },
        Subresource { name: "proxy", kind: "PodProxyOptions", kind_group_version: "", verbs: &["create", "delete", "get", "patch", "update"] },
        Subresource { name: "resize", kind: "Pod", kind_group_version: "", verbs: &["get", "patch", "update"] },
        Subresource { name: "status", kind: "Pod", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "", version: "v1", plural: "podtemplates", kind: "PodTemplate", singular: "podtemplate", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "", version: "v1", plural: "replicationcontrollers", kind: "ReplicationController", singular: "replicationcontroller", short_names: &["rc"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "scale", kind: "Scale", kind_group_version: "autoscaling/v1", verbs: &["get", "patch", "update"] },
        Subresource { name: "status", kind: "ReplicationController", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "", version: "v1", plural: "resourcequotas", kind: "ResourceQuota", singular: "resourcequota", short_names: &["quota"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "ResourceQuota", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "", version: "v1", plural: "secrets", kind: "Secret", singular: "secret", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "", version: "v1", plural: "serviceaccounts", kind: "ServiceAccount", singular: "serviceaccount", short_names: &["sa"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "token", kind: "TokenRequest", kind_group_version: "authentication.k8s.io/v1", verbs: &["create"] },
    ] },
    Resource { group: "", version: "v1", plural: "services", kind: "Service", singular: "service", short_names: &["svc"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "proxy", kind: "ServiceProxyOptions", kind_group_version: "", verbs: &["create", "delete", "get", "patch", "update"] },
        Subresource { name: "status", kind: "Service", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "apiregistration.k8s.io", version: "v1", plural: "apiservices", kind: "APIService", singular: "apiservice", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "APIService", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "apps", version: "v1", plural: "controllerrevisions", kind: "ControllerRevision", singular: "controllerrevision", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "apps", version: "v1", plural: "daemonsets", kind: "DaemonSet", singular: "daemonset", short_names: &["ds"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "DaemonSet", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "apps", version: "v1", plural: "deployments", kind: "Deployment", singular: "deployment", short_names: &["deploy"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "scale", kind: "Scale", kind_group_version: "autoscaling/v1", verbs: &["get", "patch", "update"] },
        Subresource { name: "status", kind: "Deployment", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "apps", version: "v1", plural: "replicasets", kind: "ReplicaSet", singular: "replicaset", short_names: &["rs"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "scale", kind: "Scale", kind_group_version: "autoscaling/v1", verbs: &["get", "patch", "update"] },
        Subresource { name: "status", kind: "ReplicaSet", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "apps", version: "v1", plural: "statefulsets", kind: "StatefulSet", singular: "statefulset", short_names: &["sts"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "scale", kind: "Scale", kind_group_version: "autoscaling/v1", verbs: &["get", "patch", "update"] },
        Subresource { name: "status", kind: "StatefulSet", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "events.k8s.io", version: "v1", plural: "events", kind: "Event", singular: "event", short_names: &["ev"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "authentication.k8s.io", version: "v1", plural: "selfsubjectreviews", kind: "SelfSubjectReview", singular: "selfsubjectreview", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create"], served_by_default: true, subresources: &[] },
    Resource { group: "authentication.k8s.io", version: "v1", plural: "tokenreviews", kind: "TokenReview", singular: "tokenreview", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create"], served_by_default: true, subresources: &[] },
    Resource { group: "authorization.k8s.io", version: "v1", plural: "localsubjectaccessreviews", kind: "LocalSubjectAccessReview", singular: "localsubjectaccessreview", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create"], served_by_default: true, subresources: &[] },
    Resource { group: "authorization.k8s.io", version: "v1", plural: "selfsubjectaccessreviews", kind: "SelfSubjectAccessReview", singular: "selfsubjectaccessreview", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create"], served_by_default: true, subresources: &[] },
    Resource { group: "authorization.k8s.io", version: "v1", plural: "selfsubjectrulesreviews", kind: "SelfSubjectRulesReview", singular: "selfsubjectrulesreview", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create"], served_by_default: true, subresources: &[] },
    Resource { group: "authorization.k8s.io", version: "v1", plural: "subjectaccessreviews", kind: "SubjectAccessReview", singular: "subjectaccessreview", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create"], served_by_default: true, subresources: &[] },
    Resource { group: "autoscaling", version: "v2", plural: "horizontalpodautoscalers", kind: "HorizontalPodAutoscaler", singular: "horizontalpodautoscaler", short_names: &["hpa"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "HorizontalPodAutoscaler", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "autoscaling", version: "v1", plural: "horizontalpodautoscalers", kind: "HorizontalPodAutoscaler", singular: "horizontalpodautoscaler", short_names: &["hpa"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "HorizontalPodAutoscaler", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "batch", version: "v1", plural: "cronjobs", kind: "CronJob", singular: "cronjob", short_names: &["cj"], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "CronJob", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "batch", version: "v1", plural: "jobs", kind: "Job", singular: "job", short_names: &[], categories: &["all"], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "Job", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "certificates.k8s.io", version: "v1", plural: "certificatesigningrequests", kind: "CertificateSigningRequest", singular: "certificatesigningrequest", short_names: &["csr"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "approval", kind: "CertificateSigningRequest", kind_group_version: "", verbs: &["get", "patch", "update"] },
        Subresource { name: "status", kind: "CertificateSigningRequest", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "certificates.k8s.io", version: "v1beta1", plural: "clustertrustbundles", kind: "ClusterTrustBundle", singular: "clustertrustbundle", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "certificates.k8s.io", version: "v1beta1", plural: "podcertificaterequests", kind: "PodCertificateRequest", singular: "podcertificaterequest", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "PodCertificateRequest", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "certificates.k8s.io", version: "v1alpha1", plural: "clustertrustbundles", kind: "ClusterTrustBundle", singular: "clustertrustbundle", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "networking.k8s.io", version: "v1", plural: "ingressclasses", kind: "IngressClass", singular: "ingressclass", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "networking.k8s.io", version: "v1", plural: "ingresses", kind: "Ingress", singular: "ingress", short_names: &["ing"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "Ingress", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "networking.k8s.io", version: "v1", plural: "ipaddresses", kind: "IPAddress", singular: "ipaddress", short_names: &["ip"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "networking.k8s.io", version: "v1", plural: "networkpolicies", kind: "NetworkPolicy", singular: "networkpolicy", short_names: &["netpol"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "networking.k8s.io", version: "v1", plural: "servicecidrs", kind: "ServiceCIDR", singular: "servicecidr", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "ServiceCIDR", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "networking.k8s.io", version: "v1beta1", plural: "ipaddresses", kind: "IPAddress", singular: "ipaddress", short_names: &["ip"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "networking.k8s.io", version: "v1beta1", plural: "servicecidrs", kind: "ServiceCIDR", singular: "servicecidr", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "ServiceCIDR", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "policy", version: "v1", plural: "poddisruptionbudgets", kind: "PodDisruptionBudget", singular: "poddisruptionbudget", short_names: &["pdb"], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "PodDisruptionBudget", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "rbac.authorization.k8s.io", version: "v1", plural: "clusterrolebindings", kind: "ClusterRoleBinding", singular: "clusterrolebinding", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "rbac.authorization.k8s.io", version: "v1", plural: "clusterroles", kind: "ClusterRole", singular: "clusterrole", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "rbac.authorization.k8s.io", version: "v1", plural: "rolebindings", kind: "RoleBinding", singular: "rolebinding", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "rbac.authorization.k8s.io", version: "v1", plural: "roles", kind: "Role", singular: "role", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "storage.k8s.io", version: "v1", plural: "csidrivers", kind: "CSIDriver", singular: "csidriver", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "storage.k8s.io", version: "v1", plural: "csinodes", kind: "CSINode", singular: "csinode", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "storage.k8s.io", version: "v1", plural: "csistoragecapacities", kind: "CSIStorageCapacity", singular: "csistoragecapacity", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "storage.k8s.io", version: "v1", plural: "storageclasses", kind: "StorageClass", singular: "storageclass", short_names: &["sc"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "storage.k8s.io", version: "v1", plural: "volumeattachments", kind: "VolumeAttachment", singular: "volumeattachment", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "VolumeAttachment", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "storage.k8s.io", version: "v1", plural: "volumeattributesclasses", kind: "VolumeAttributesClass", singular: "volumeattributesclass", short_names: &["vac"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "storage.k8s.io", version: "v1beta1", plural: "volumeattributesclasses", kind: "VolumeAttributesClass", singular: "volumeattributesclass", short_names: &["vac"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "admissionregistration.k8s.io", version: "v1", plural: "mutatingadmissionpolicies", kind: "MutatingAdmissionPolicy", singular: "mutatingadmissionpolicy", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "admissionregistration.k8s.io", version: "v1", plural: "mutatingadmissionpolicybindings", kind: "MutatingAdmissionPolicyBinding", singular: "mutatingadmissionpolicybinding", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "admissionregistration.k8s.io", version: "v1", plural: "mutatingwebhookconfigurations", kind: "MutatingWebhookConfiguration", singular: "mutatingwebhookconfiguration", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "admissionregistration.k8s.io", version: "v1", plural: "validatingadmissionpolicies", kind: "ValidatingAdmissionPolicy", singular: "validatingadmissionpolicy", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "ValidatingAdmissionPolicy", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "admissionregistration.k8s.io", version: "v1", plural: "validatingadmissionpolicybindings", kind: "ValidatingAdmissionPolicyBinding", singular: "validatingadmissionpolicybinding", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "admissionregistration.k8s.io", version: "v1", plural: "validatingwebhookconfigurations", kind: "ValidatingWebhookConfiguration", singular: "validatingwebhookconfiguration", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "admissionregistration.k8s.io", version: "v1beta1", plural: "mutatingadmissionpolicies", kind: "MutatingAdmissionPolicy", singular: "mutatingadmissionpolicy", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "admissionregistration.k8s.io", version: "v1beta1", plural: "mutatingadmissionpolicybindings", kind: "MutatingAdmissionPolicyBinding", singular: "mutatingadmissionpolicybinding", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "admissionregistration.k8s.io", version: "v1alpha1", plural: "mutatingadmissionpolicies", kind: "MutatingAdmissionPolicy", singular: "mutatingadmissionpolicy", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "admissionregistration.k8s.io", version: "v1alpha1", plural: "mutatingadmissionpolicybindings", kind: "MutatingAdmissionPolicyBinding", singular: "mutatingadmissionpolicybinding", short_names: &[], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "apiextensions.k8s.io", version: "v1", plural: "customresourcedefinitions", kind: "CustomResourceDefinition", singular: "customresourcedefinition", short_names: &["crd", "crds"], categories: &["api-extensions"], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "CustomResourceDefinition", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "scheduling.k8s.io", version: "v1", plural: "priorityclasses", kind: "PriorityClass", singular: "priorityclass", short_names: &["pc"], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "scheduling.k8s.io", version: "v1alpha2", plural: "podgroups", kind: "PodGroup", singular: "podgroup", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "PodGroup", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "scheduling.k8s.io", version: "v1alpha2", plural: "workloads", kind: "Workload", singular: "workload", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease", singular: "lease", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "coordination.k8s.io", version: "v1beta1", plural: "leasecandidates", kind: "LeaseCandidate", singular: "leasecandidate", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "coordination.k8s.io", version: "v1alpha2", plural: "leasecandidates", kind: "LeaseCandidate", singular: "leasecandidate", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "node.k8s.io", version: "v1", plural: "runtimeclasses", kind: "RuntimeClass", singular: "runtimeclass", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "discovery.k8s.io", version: "v1", plural: "endpointslices", kind: "EndpointSlice", singular: "endpointslice", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1", plural: "deviceclasses", kind: "DeviceClass", singular: "deviceclass", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1", plural: "resourceclaims", kind: "ResourceClaim", singular: "resourceclaim", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "ResourceClaim", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "resource.k8s.io", version: "v1", plural: "resourceclaimtemplates", kind: "ResourceClaimTemplate", singular: "resourceclaimtemplate", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1", plural: "resourceslices", kind: "ResourceSlice", singular: "resourceslice", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1beta2", plural: "deviceclasses", kind: "DeviceClass", singular: "deviceclass", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1beta2", plural: "devicetaintrules", kind: "DeviceTaintRule", singular: "devicetaintrule", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "DeviceTaintRule", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "resource.k8s.io", version: "v1beta2", plural: "resourceclaims", kind: "ResourceClaim", singular: "resourceclaim", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "ResourceClaim", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "resource.k8s.io", version: "v1beta2", plural: "resourceclaimtemplates", kind: "ResourceClaimTemplate", singular: "resourceclaimtemplate", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1beta2", plural: "resourceslices", kind: "ResourceSlice", singular: "resourceslice", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1beta1", plural: "deviceclasses", kind: "DeviceClass", singular: "deviceclass", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1beta1", plural: "resourceclaims", kind: "ResourceClaim", singular: "resourceclaim", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "ResourceClaim", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "resource.k8s.io", version: "v1beta1", plural: "resourceclaimtemplates", kind: "ResourceClaimTemplate", singular: "resourceclaimtemplate", short_names: &[], categories: &[], namespaced: true,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1beta1", plural: "resourceslices", kind: "ResourceSlice", singular: "resourceslice", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[] },
    Resource { group: "resource.k8s.io", version: "v1alpha3", plural: "devicetaintrules", kind: "DeviceTaintRule", singular: "devicetaintrule", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "DeviceTaintRule", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "resource.k8s.io", version: "v1alpha3", plural: "resourcepoolstatusrequests", kind: "ResourcePoolStatusRequest", singular: "resourcepoolstatusrequest", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "ResourcePoolStatusRequest", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "flowcontrol.apiserver.k8s.io", version: "v1", plural: "flowschemas", kind: "FlowSchema", singular: "flowschema", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "FlowSchema", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "flowcontrol.apiserver.k8s.io", version: "v1", plural: "prioritylevelconfigurations", kind: "PriorityLevelConfiguration", singular: "prioritylevelconfiguration", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: true, subresources: &[
        Subresource { name: "status", kind: "PriorityLevelConfiguration", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "internal.apiserver.k8s.io", version: "v1alpha1", plural: "storageversions", kind: "StorageVersion", singular: "storageversion", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "StorageVersion", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
    Resource { group: "storagemigration.k8s.io", version: "v1beta1", plural: "storageversionmigrations", kind: "StorageVersionMigration", singular: "storageversionmigration", short_names: &[], categories: &[], namespaced: false,
        verbs: &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"], served_by_default: false, subresources: &[
        Subresource { name: "status", kind: "StorageVersionMigration", kind_group_version: "", verbs: &["get", "patch", "update"] },
    ] },
];

//! Who callers are: tokens of issuers, webhooks and bootstrap secrets, the proxy in front, certificates of strangers.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use common::tls::{Handler, TlsServer};
use common::{Cluster, FRONT_PROXY};
use coracle_apiserver::{Authentication, RequestHeader, TokenWebhook};
use coracle_client::{ClientConfig, HttpTransport, Transport, full_body};
use coracle_pki::{Authority, LeafParams};
use futures::FutureExt;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A key of an issuer.
struct Signer {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        Self { id, pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key") }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"kty": "EC", "use": "sig", "alg": "ES256", "kid": self.id, "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.id}).to_string();
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).expect("signed");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// An issuer with two keys, of which it shows the second when told so.
struct Provider {
    server: TlsServer,
    keys: [Arc<Signer>; 2],
    rotated: Arc<AtomicBool>,
}

impl Provider {
    async fn start() -> Self {
        let keys = [Arc::new(Signer::new("one")), Arc::new(Signer::new("two"))];
        let rotated = Arc::new(AtomicBool::new(false));
        let (shown, flag) = (keys.clone(), Arc::clone(&rotated));
        let handler: Handler = Arc::new(move |request| {
            let host = request
                .headers()
                .get("host")
                .and_then(|host| host.to_str().ok())
                .or(request.uri().authority().map(|authority| authority.as_str()))
                .unwrap_or_default()
                .to_owned();
            let own = if flag.load(Ordering::SeqCst) { &shown[1] } else { &shown[0] };
            let answer = match request.uri().path() {
                "/.well-known/openid-configuration" => {
                    json!({"issuer": format!("https://{host}"), "jwks_uri": format!("https://{host}/keys")})
                }
                "/keys" => json!({"keys": [own.jwk()]}),
                _ => Value::Null,
            };
            async move { Response::new(full_body(answer.to_string())) }.boxed()
        });
        Self { server: TlsServer::start(&["127.0.0.1"], handler).await, keys, rotated }
    }

    fn url(&self) -> String {
        format!("https://{}", self.server.address)
    }

    fn authentication(&self, rest: &Value) -> Authentication {
        let ca = STANDARD.decode(&self.server.bundle).expect("bundle");
        let mut jwt = rest.clone();
        jwt["issuer"] = json!({"url": self.url(), "certificateAuthority": String::from_utf8(ca).expect("PEM"),
            "audiences": ["kubernetes", "other"], "audienceMatchPolicy": "MatchAny"});
        let config = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [jwt]});
        Authentication::parse(&config.to_string(), "own").expect("a configuration")
    }

    fn claims(&self) -> Value {
        let now = Timestamp::now().as_second();
        json!({"iss": self.url(), "aud": "kubernetes", "exp": now + 600, "sub": "jane", "team": ["a", "b"],
            "tenant": "blue", "verified": true})
    }
}

fn transport(cluster: &Cluster, adjust: impl FnOnce(&mut ClientConfig)) -> HttpTransport {
    let mut config = ClientConfig {
        server: format!("https://{}", cluster.address),
        ca_pem: Some(cluster.config.cluster_ca_pem.clone().into_bytes()),
        ..ClientConfig::default()
    };
    adjust(&mut config);
    HttpTransport::new(config).expect("transport")
}

async fn send(transport: &HttpTransport, request: Request<Bytes>) -> (u16, Value) {
    let answer = transport.send(request).await.expect("an answer");
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("body").to_bytes();
    (code, serde_json::from_slice(&body).unwrap_or_default())
}

fn who_am_i() -> http::request::Builder {
    Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews").header("content-type", "application/json")
}

const REVIEW: &str = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;

/// The code, and the user that the server sees.
async fn user(transport: &HttpTransport) -> (u16, Value) {
    let (code, answer) = send(transport, who_am_i().body(Bytes::from(REVIEW)).expect("request")).await;
    (code, answer["status"]["userInfo"].clone())
}

async fn user_of_token(cluster: &Cluster, token: &str) -> (u16, Value) {
    user(&transport(cluster, |config| config.token = Some(token.to_owned()))).await
}

fn mapped() -> Value {
    json!({
        "claimMappings": {
            "username": {"expression": "'oidc:' + claims.sub"},
            "groups": {"claim": "team", "prefix": "team:"},
            "uid": {"claim": "sub"},
            "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}]},
        "claimValidationRules": [{"claim": "tenant", "requiredValue": "blue"},
            {"expression": "claims.verified == true", "message": "not verified"}],
        "userValidationRules": [{"expression": "!user.username.startsWith('oidc:system:')", "message": "reserved"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_issuer_name_users() {
    let provider = Provider::start().await;
    let authentication = provider.authentication(&mapped());
    let cluster = Cluster::start_with("127.0.0.1:0", |config| config.access.authentication = authentication).await;
    let [one, two] = &provider.keys;
    let good = provider.claims();
    let (code, jane) = user_of_token(&cluster, &one.token(&good)).await;
    assert_eq!(code, 201);
    assert_eq!(
        jane,
        json!({"username": "oidc:jane", "uid": "jane", "groups": ["team:a", "team:b", "system:authenticated"],
            "extra": {"example.com/tenant": ["blue"]}})
    );
    let with = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        one.token(&claims)
    };
    for (field, value) in [
        ("aud", json!("elsewhere")),
        ("exp", json!(Timestamp::now().as_second() - 1)),
        ("nbf", json!(Timestamp::now().as_second() + 1000)),
        ("tenant", json!("red")),
        ("verified", json!(false)),
        ("sub", json!("system:admin")),
        ("iss", json!("https://127.0.0.1:1")),
    ] {
        assert_eq!(user_of_token(&cluster, &with(field, value)).await.0, 401, "{field}");
    }
    assert_eq!(user_of_token(&cluster, &two.token(&good)).await.0, 401, "a key that is not shown");
    // A token review tells what is wrong.
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": with("verified", json!(false))}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = cluster.admin().call(Method::POST, path, "application/json", review.to_string().into_bytes()).await;
    let answer: Value = serde_json::from_slice(&answer.expect("a review")).expect("JSON");
    let error = answer["status"]["error"].as_str().expect("an error");
    assert!(error.contains("claim validation expression") && error.contains("not verified"), "{error}");
    // The issuer changes its key: found when a token asks for it, not more often than once a second.
    provider.rotated.store(true, Ordering::SeqCst);
    let renewed = async {
        while user_of_token(&cluster, &two.token(&good)).await.0 != 201 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("the new key is found");
    // Another configuration counts at once, whatever was remembered.
    cluster.server.configure_authentication(&Authentication::default());
    assert_eq!(user_of_token(&cluster, &two.token(&good)).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_knows_tokens() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::<Value>::new()));
    let log = Arc::clone(&asked);
    let handler: Handler = Arc::new(move |request| {
        let log = Arc::clone(&log);
        async move {
            let body = request.into_body().collect().await.expect("body").to_bytes();
            let review: Value = serde_json::from_slice(&body).expect("a review");
            log.lock().expect("lock").push(review.clone());
            let status = if review["spec"]["token"] == "known" {
                json!({"authenticated": true, "user": {"username": "hook-user", "groups": ["g"]}})
            } else {
                json!({"authenticated": false})
            };
            let answer = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status});
            Response::new(full_body(answer.to_string()))
        }
        .boxed()
    });
    let hook = TlsServer::start(&["127.0.0.1"], handler).await;
    let webhook = TokenWebhook {
        server: ClientConfig {
            server: format!("https://{}/authenticate", hook.address),
            ca_pem: Some(STANDARD.decode(&hook.bundle).expect("bundle")),
            ..ClientConfig::default()
        },
        version: "v1".to_owned(),
        cache_ttl: Duration::from_secs(120),
    };
    let cluster = Cluster::start_with("127.0.0.1:0", |config| config.access.token_webhook = Some(webhook)).await;
    for _ in 0..3 {
        let (code, found) = user_of_token(&cluster, "known").await;
        assert_eq!(
            (code, &found["username"], &found["groups"]),
            (201, &json!("hook-user"), &json!(["g", "system:authenticated"]))
        );
    }
    assert_eq!(user_of_token(&cluster, "unknown").await.0, 401);
    let asked = asked.lock().expect("lock");
    assert_eq!(asked.len(), 2, "answers are remembered");
    assert_eq!(asked[0]["apiVersion"], "authentication.k8s.io/v1");
    assert_eq!(asked[0]["spec"]["audiences"], json!([cluster.config.issuer]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_in_front_is_believed() {
    let cluster = Cluster::start_with("127.0.0.1:0", |config| {
        let proxy = config.front_proxy.as_ref().expect("a front proxy");
        config.access.request_header = Some(RequestHeader::new(proxy.ca_pem.clone(), vec![FRONT_PROXY.to_owned()]));
    })
    .await;
    let proxy = cluster.config.front_proxy.as_ref().expect("a front proxy");
    let (certificate, key) = (proxy.client.certificate_pem.clone(), proxy.client.key_pem.clone());
    let as_proxy = transport(&cluster, |config| {
        config.client_cert_pem = Some(certificate.into_bytes());
        config.client_key_pem = Some(key.into_bytes());
    });
    let told = |builder: http::request::Builder| {
        builder
            .header("x-remote-user", "jane")
            .header("x-remote-group", "a")
            .header("x-remote-group", "b")
            .header("x-remote-uid", "u1")
            .header("x-remote-extra-example.com%2fteam", "blue")
            .body(Bytes::from(REVIEW))
            .expect("request")
    };
    let (code, answer) = send(&as_proxy, told(who_am_i())).await;
    assert_eq!(code, 201);
    assert_eq!(
        answer["status"]["userInfo"],
        json!({"username": "jane", "uid": "u1", "groups": ["a", "b", "system:authenticated"],
            "extra": {"example.com/team": ["blue"]}})
    );
    // Others may say what they like.
    let nobody = transport(&cluster, |_| {});
    let (_, answer) = send(&nobody, told(who_am_i())).await;
    assert_ne!(answer["status"]["userInfo"]["username"], "jane");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_strangers_are_answered() {
    let cluster = Cluster::start().await;
    let now = Timestamp::now();
    let (stranger, _) = Authority::create("kubernetes", now, SignedDuration::from_hours(1)).expect("authority");
    let leaf = LeafParams {
        common_name: "admin",
        organizations: &["system:masters"],
        alt_names: &[],
        client: true,
        server: false,
        valid_for: SignedDuration::from_hours(1),
    };
    let issued = stranger.issue(&leaf, now).expect("certificate");
    let as_stranger = transport(&cluster, |config| {
        config.client_cert_pem = Some(issued.cert_pem.into_bytes());
        config.client_key_pem = Some(issued.key_pem.into_bytes());
    });
    let (code, status) = send(&as_stranger, Request::get("/version").body(Bytes::new()).expect("request")).await;
    assert_eq!((code, &status["kind"], &status["reason"]), (401, &json!("Status"), &json!("Unauthorized")));
}

#[tokio::test(flavor = "multi_thread")]
async fn bootstrap_tokens_come_from_secrets() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    let make = |id: &str, more: Value| {
        let mut data = json!({"token-id": id, "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true"});
        for (key, value) in more.as_object().expect("fields") {
            data[key] = value.clone();
        }
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": format!("bootstrap-token-{id}")}, "stringData": data});
        let path = "/api/v1/namespaces/kube-system/secrets";
        let admin = admin.clone();
        async move {
            admin.call(Method::POST, path, "application/json", secret.to_string().into_bytes()).await.expect("a secret")
        }
    };
    make("aaaaaa", json!({"auth-extra-groups": "system:bootstrappers:workers"})).await;
    make("bbbbbb", json!({"expiration": "2020-01-01T00:00:00Z"})).await;
    make("cccccc", json!({"usage-bootstrap-authentication": "false"})).await;
    let (code, joined) = user_of_token(&cluster, "aaaaaa.0123456789abcdef").await;
    assert_eq!((code, &joined["username"]), (201, &json!("system:bootstrap:aaaaaa")));
    assert_eq!(
        joined["groups"],
        json!(["system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"])
    );
    for bad in ["aaaaaa.fedcba9876543210", "bbbbbb.0123456789abcdef", "cccccc.0123456789abcdef"] {
        assert_eq!(user_of_token(&cluster, bad).await.0, 401, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_may_ask_for_little() {
    let config = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {enabled: true, conditions: [{path: /livez}]}\n";
    let authentication = Authentication::parse(config, "own").expect("a configuration");
    let cluster = Cluster::start_with("127.0.0.1:0", |config| config.access.authentication = authentication).await;
    let nobody = transport(&cluster, |_| {});
    let get = |path: &str| Request::get(path).body(Bytes::new()).expect("request");
    assert_eq!(send(&nobody, get("/livez")).await.0, 200);
    assert_eq!(send(&nobody, get("/readyz")).await.0, 401);
    assert_eq!(send(&nobody, get("/api/v1/pods")).await.0, 401);
}

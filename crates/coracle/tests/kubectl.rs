//! `coracle kubectl` and stock kubectl say the same about the same objects.

mod alone;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use alone::Folder;

const OBJECTS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: registry.example/web:1
        command: [sh, -c, sleep 1]
        resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 200m}}
        livenessProbe: {httpGet: {path: /ok, port: 80}}
        env:
        - {name: PLAIN, value: "1"}
        - {name: FIELD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: SECRET, valueFrom: {secretKeyRef: {name: hidden, key: word, optional: true}}}
        envFrom: [{configMapRef: {name: settings, optional: true}}]
        volumeMounts: [{name: scratch, mountPath: /scratch}, {name: settings, mountPath: /settings, readOnly: true}]
      volumes: [{name: scratch, emptyDir: {}}, {name: settings, configMap: {name: settings}}, {name: host, hostPath: {path: /tmp}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, name: http, nodePort: 30080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, annotations: {note: "a: b"}}
data: {"a": "two\nlines\n", "b": "50", "c": "true", "d": " led by a space", "e": ""}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {word: secret}
---
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: registry.example/work:1}]}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ordered}
spec: {serviceName: web, selector: {matchLabels: {app: ordered}}, template: {metadata: {labels: {app: ordered}}, spec: {containers: [{name: main, image: registry.example/web:1}]}}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: few}
spec: {hard: {pods: "20", configmaps: "9"}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: range}
spec: {limits: [{type: Container, max: {memory: 1Gi}}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /tmp/none}, storageClassName: other}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: way}
spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: first}
value: 5
---
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec: {containers: [{name: main, image: registry.example/web:1}]}
"#;

struct Both<'a>(&'a Folder);

impl Both<'_> {
    fn stock(&self, arguments: &[&str]) -> Output {
        let kubeconfig = self.0.path("kubeconfig");
        Command::new("kubectl").arg("--kubeconfig").arg(kubeconfig).args(arguments).output().expect("kubectl")
    }

    fn own(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        let _ = command.arg("kubectl").args(arguments).arg("--kubeconfig").arg(self.0.path("kubeconfig"));
        command.output().expect("coracle")
    }

    /// Both answer the same, but for ages and for what the looks themselves change.
    fn agree(&self, line: &str) {
        let arguments: Vec<&str> = line.split(' ').collect();
        let mut told = String::new();
        // An object may change between the two looks.
        for _ in 0..5 {
            let (stock, own) = (self.stock(&arguments), self.own(&arguments));
            let same = plain(&stock.stdout) == plain(&own.stdout)
                && plain(&stock.stderr) == plain(&own.stderr)
                && stock.status.code() == own.status.code();
            if same {
                return;
            }
            told = format!(
                "{line}: {:?} and {:?}\n--- kubectl\n{}{}\n--- coracle\n{}{}",
                stock.status.code(),
                own.status.code(),
                plain(&stock.stdout),
                plain(&stock.stderr),
                plain(&own.stdout),
                plain(&own.stderr)
            );
        }
        panic!("{told}");
    }
}

/// Without ages, and without widths that depend on them.
fn plain(bytes: &[u8]) -> String {
    let is_age = |word: &str| {
        word.len() > 1
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.ends_with(['s', 'm', 'h', 'd'])
            && word.chars().all(|c| c.is_ascii_digit() || "smhd".contains(c))
    };
    let word = |word: &str| if is_age(word) { "AGE".to_owned() } else { word.to_owned() };
    let text = String::from_utf8_lossy(bytes);
    let line = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        format!("{}{}", " ".repeat(indent), words.join(" "))
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_words() {
    let folder = Folder::new();
    let data = folder.path("data");
    let running = folder.started(&data);
    let both = Both(&folder);
    apply(&folder);
    for line in [
        "get all",
        "get pods,deploy -o wide",
        "get configmaps -A",
        "get cm settings -o yaml",
        "get cm settings -o json",
        "get deploy web -o yaml",
        "get secrets,pvc,pv,quota,limitrange,ingress,priorityclass",
        "get pods --show-labels",
        "get pods -l app=web -L app --no-headers",
        "get pods --sort-by=.metadata.name -o name",
        "get pods -o jsonpath={range.items[*]}{.metadata.name},{end}",
        "get svc -o custom-columns=NAME:.metadata.name,PORT:.spec.ports[0].port",
        "get deploy/web svc/web",
        "get pods -l app=none",
        "get pod missing",
        "get nothing",
        "get",
        "get pods --nothing",
        "get clusterrole view -o yaml",
        "describe deploy web",
        "describe svc web",
        "describe cm settings",
        "describe secret hidden",
        "describe job work",
        "describe sts ordered",
        "describe quota few",
        "describe limitrange range",
        "describe pvc data",
        "describe pv disk",
        "describe ingress way",
        "describe priorityclass first",
        "describe pod alone",
        "describe ns default",
        "describe clusterrole view",
        "describe clusterrolebinding cluster-admin",
        "describe sa default",
        "describe deploy missing",
        "describe networkpolicies",
        "scale deploy missing --replicas=1",
        "delete pod missing",
        "logs missing",
        "logs",
        "create -f /no/such/file",
        "explain pods.spec.nothing",
        "explain nothing",
    ] {
        both.agree(line);
    }
    let raw = both.own(&["get", "--raw", "/api/v1/namespaces/default/pods/alone/log?tailLines=-1&limitBytes=0"]);
    let told = String::from_utf8_lossy(&raw.stderr).into_owned();
    let wanted = "PodLogOptions \"alone\" is invalid: [tailLines: Invalid value: -1: must be greater than or equal to 0, limitBytes: Invalid value: 0: must be greater than 0]";
    assert!(told.contains("(Invalid)") && told.contains(wanted), "{told}");
    drop(running);
}

fn apply(folder: &Folder) {
    let mut own = Command::new(env!("CARGO_BIN_EXE_coracle"));
    let _ = own.args(["kubectl", "apply", "-f", "-", "--kubeconfig"]).arg(folder.path("kubeconfig"));
    let mut child = own.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run");
    child.stdin.take().expect("piped").write_all(OBJECTS.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("run");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(" created")).count(), 13);
}

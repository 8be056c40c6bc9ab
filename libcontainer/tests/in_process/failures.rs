//! What is refused, and what a caller learns from an error without reading its text.

use super::{OWN, Place};
use libcontainer::spec::{Hook, Hooks, Mount, Spec};
use libcontainer::{
    Bundle, Container, ContainerId, CreateOptions, Delete, Error, ErrorKind, ExecOptions, Object, Overlay,
    ProgramError, Runtime, Stage, Stdio,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn create(place: &Place, name: &str, bundle: &Bundle) -> Result<Container, Error> {
    let runtime = Runtime::open(place.state())?;
    runtime.create(&ContainerId::new(name)?, bundle, CreateOptions::new(Stdio::inherit()))
}

fn is_left(place: &Place, name: &str) -> bool {
    place.state().join(name).exists()
}

pub(super) fn upper_twice(place: &Place) {
    let path = place.bundle("uppers", &["/bin/sh"], OWN, "");
    let [low, upper] = ["low", "upper-of"].map(|name| path.join(name));
    fs::create_dir_all(low.join("proc")).unwrap();
    let overlay = Overlay::new([path.join("rootfs"), low]).upper(&upper);
    let bundle = |name: &str| {
        Bundle::load(place.bundle(name, &["/bin/sh"], OWN, "")).unwrap().with_rootfs(overlay.clone())
    };
    let first = create(place, "upper-1", &bundle("upper-1")).unwrap();
    let error = create(place, "upper-2", &bundle("upper-2")).unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::Busy, Some(Object::Root)), "{error}");
    assert!(error.to_string().contains("upper-of") && !is_left(place, "upper-2"), "{error}");
    // At once afterwards.
    first.delete(Delete::Force).unwrap();
    create(place, "upper-2", &bundle("upper-2")).unwrap().delete(Delete::Force).unwrap();
}

pub(super) fn one_lower(place: &Place) {
    let path = place.bundle("one-lower", &["/bin/sh"], OWN, "");
    let bundle = Bundle::load(&path).unwrap().with_rootfs(Overlay::new([path.join("rootfs")]));
    let error = create(place, "one-lower", &bundle).unwrap_err();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::InvalidSpec, Some(Stage::Plan)), "{error}");
    assert!(error.to_string().contains("root.readonly") && !is_left(place, "one-lower"), "{error}");
}

pub(super) fn relative_paths(place: &Place) {
    let path = place.bundle("no-path", &["/bin/sh"], OWN, "");
    let spec = |root: PathBuf, source: Option<PathBuf>| -> Spec {
        let mut spec = Bundle::load(&path).unwrap().spec().clone();
        spec.root_mut().as_mut().unwrap().set_path(root);
        if let Some(source) = source {
            let mut mount = Mount::default();
            mount.set_destination("/mnt".into()).set_source(Some(source)).set_typ(Some("bind".to_owned()));
            mount.set_options(Some(vec!["bind".to_owned()]));
            spec.mounts_mut().as_mut().unwrap().push(mount);
        }
        spec
    };
    let root = || path.join("rootfs");
    for (root, source, field) in [
        (root(), None, None),
        (root(), Some("/proc".into()), None),
        ("rootfs".into(), None, Some("root.path")),
        ("./rootfs".into(), None, Some("root.path")),
        (root(), Some("relative".into()), Some("mounts[1].source")),
        (root(), Some("../proc".into()), Some("mounts[1].source")),
    ] {
        let runtime = Runtime::open(place.state()).unwrap();
        let options = CreateOptions::new(Stdio::inherit());
        let bundle = Bundle::new("", spec(root.clone(), source.clone()));
        let planned = runtime.plan(&ContainerId::new("no-path").unwrap(), &bundle, &options);
        match (planned, field) {
            (Ok(_), None) => {}
            (Err(error), Some(field)) => {
                assert_eq!(error.kind(), ErrorKind::InvalidSpec, "{error}");
                assert!(error.to_string().contains(field), "{error}");
            }
            (planned, _) => panic!("{root:?} {source:?}: {planned:?}"),
        }
    }
}

type Change = fn(&mut Spec);
type Expected = (ErrorKind, Option<Object>, Option<Stage>, Option<ProgramError>);

pub(super) fn kinds(place: &Place) {
    let path = place.bundle("kinds", &["/bin/sh", "-c", "exit"], OWN, "");
    fn run(spec: &mut Spec, program: &str) {
        spec.process_mut().as_mut().unwrap().set_args(Some(vec![program.to_owned()]));
    }
    fn hook(spec: &mut Spec, set: fn(&mut Hooks, Option<Vec<Hook>>)) {
        let (mut hooks, mut hook) = (Hooks::default(), Hook::default());
        hook.set_path("/no/such/hook".into()).set_args(None).set_env(None).set_timeout(None);
        set(&mut hooks, Some(vec![hook]));
        spec.set_hooks(Some(hooks));
    }
    let cases: &[(&str, Change, Expected)] = &[
        (
            "no root",
            |spec| _ = spec.root_mut().as_mut().unwrap().set_path("nowhere".into()),
            (ErrorKind::NotFound, Some(Object::Root), Some(Stage::Prepare), None),
        ),
        (
            "the working directory is a file",
            |spec| _ = spec.process_mut().as_mut().unwrap().set_cwd("/bin/busybox".into()),
            (ErrorKind::Os, Some(Object::WorkingDirectory), Some(Stage::Prepare), None),
        ),
        (
            "no source of a mount",
            |spec| {
                let mut mount = Mount::default();
                mount.set_destination("/mnt".into()).set_source(Some("/no/such/source".into()));
                mount.set_typ(Some("bind".to_owned())).set_options(Some(vec!["bind".to_owned()]));
                spec.mounts_mut().as_mut().unwrap().push(mount);
            },
            (ErrorKind::NotFound, None, Some(Stage::Prepare), None),
        ),
        (
            "no program in PATH",
            |spec| run(spec, "no-such-program"),
            (ErrorKind::NotFound, Some(Object::Program), Some(Stage::Execute), Some(ProgramError::NotFound)),
        ),
        (
            "no program",
            |spec| run(spec, "/no/such/program"),
            (ErrorKind::NotFound, Some(Object::Program), Some(Stage::Execute), Some(ProgramError::NotFound)),
        ),
        (
            "a directory for a program",
            |spec| run(spec, "/bin"),
            (ErrorKind::Os, Some(Object::Program), Some(Stage::Execute), Some(ProgramError::NotExecutable)),
        ),
        (
            "no program of a hook",
            |spec| hook(spec, |hooks, list| _ = hooks.set_create_runtime(list)),
            (ErrorKind::NotFound, None, Some(Stage::Hook), None),
        ),
        (
            "no program of a hook in the container",
            |spec| hook(spec, |hooks, list| _ = hooks.set_create_container(list)),
            (ErrorKind::NotFound, None, Some(Stage::Hook), None),
        ),
        (
            "a contradiction",
            |spec| _ = spec.set_root(None),
            (ErrorKind::InvalidSpec, None, Some(Stage::Plan), None),
        ),
    ];
    let of = |e: &Error| (e.kind(), e.object(), e.stage(), e.program_error());
    for (what, change, expected) in cases {
        let mut bundle = Bundle::load(&path).unwrap();
        change(bundle.spec_mut());
        let error = create(place, "kinds", &bundle).unwrap_err();
        assert_eq!(of(&error), *expected, "{what}: {error}");
        assert!(!is_left(place, "kinds"), "{what}");
    }

    let absent = |kind, object, stage| (kind, Some(object), stage, None);
    let error = Bundle::load(place.dir.join("no-bundle")).unwrap_err();
    assert_eq!(of(&error), absent(ErrorKind::NotFound, Object::Bundle, Some(Stage::Plan)), "{error}");
    let id = ContainerId::new("nobody").unwrap();
    let error = Runtime::open(place.state()).unwrap().load(&id).unwrap_err();
    assert_eq!(of(&error), absent(ErrorKind::NotFound, Object::Container, None), "{error}");
    let error = Runtime::open(place.dir.join("no-root")).unwrap().list().unwrap_err();
    assert_eq!(of(&error), absent(ErrorKind::NotFound, Object::StateRoot, None), "{error}");

    let bundle = Bundle::load(&path).unwrap();
    let one = create(place, "kinds", &bundle).unwrap();
    let error = create(place, "kinds", &bundle).unwrap_err();
    assert_eq!(of(&error), absent(ErrorKind::Exists, Object::Container, Some(Stage::Reserve)), "{error}");
    for (name, text, kind) in [
        ("script", "#!/no/such/interpreter\n", ErrorKind::NotFound),
        ("text", "not a program", ErrorKind::Os),
    ] {
        let file = path.join("rootfs").join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let mut process = one.process_spec().clone();
        process.set_args(Some(vec![format!("/{name}")]));
        let error = one.exec(&process, ExecOptions::new(Stdio::inherit())).unwrap_err();
        let refused = (kind, Some(Object::Program), Some(Stage::Execute), Some(ProgramError::Refused));
        assert_eq!(of(&error), refused, "{error}");
    }
    one.delete(Delete::Force).unwrap();
    let options = CreateOptions::new(Stdio::inherit());
    let error = Runtime::open(path.join("config.json")).unwrap().create(&id, &bundle, options).unwrap_err();
    assert_eq!(of(&error), absent(ErrorKind::Os, Object::StateRoot, Some(Stage::Reserve)), "{error}");
}

pub(super) fn hooks_descriptors(place: &Place) {
    let path = place.bundle("descriptors", &["/bin/sh", "-c", "exit"], OWN, "");
    let open = fs::File::create(path.join("open-in-the-caller")).unwrap();
    nix::fcntl::fcntl(&open, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let hook = |name: &str| {
        let script = format!("ls -l /proc/self/fd > {name}.txt");
        let mut hook = Hook::default();
        hook.set_path("/bin/sh".into()).set_args(Some(vec!["sh".to_owned(), "-c".to_owned(), script]));
        hook.set_env(None).set_timeout(None);
        Some(vec![hook])
    };
    let mut hooks = Hooks::default();
    #[allow(deprecated)]
    hooks.set_prestart(hook("prestart"));
    hooks.set_create_runtime(hook("createRuntime"));
    hooks.set_poststart(hook("poststart")).set_poststop(hook("poststop"));
    let mut bundle = Bundle::load(&path).unwrap();
    bundle.spec_mut().set_hooks(Some(hooks));
    let mut container = create(place, "descriptors", &bundle).unwrap();
    container.start().unwrap();
    container.wait().unwrap();
    container.delete(Delete::Stopped).unwrap();
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        let text = fs::read_to_string(path.join(Path::new(name).with_extension("txt"))).unwrap();
        assert!(text.contains(" 0 -> ") && text.contains(" 2 -> "), "{name}: {text}");
        assert!(!text.contains("open-in-the-caller"), "{name}: {text}");
    }
}

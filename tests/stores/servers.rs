//! PostgreSQL and Redis, started in a temporary folder on a free port, where they are installed.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// A server of this process's own: it ends, and its folder goes, with the process or with this.
pub(crate) struct Server {
    pub(crate) folder: PathBuf,
    /// What is run in a shell, in the folder.
    command: Vec<String>,
    user: Option<(u32, u32)>,
    pub(crate) port: u16,
    /// Where the nodes of a cluster talk to each other.
    pub(crate) bus: u16,
    running: Option<Child>,
}

/// Waits for the end of its standard input, which comes also when this process is killed.
const KEEPER: &str = r#"
    folder=$1; shift
    "$@" >server.log 2>&1 &
    read -r keep
    if [ "$keep" = kill ]; then
        kill -STOP $!
        children=$(cat /proc/$!/task/$!/children)
        kill -KILL $! $children
        # A zombie has none.
        for child in $children; do while [ -e /proc/$child/exe ]; do sleep 0.01; done; done
    else
        kill -INT $!
    fi
    wait $!
    [ "$keep" ] || rm -rf "$folder"
"#;

impl Server {
    /// `None`, and a word about it, where PostgreSQL is not installed.
    pub(crate) fn postgres(durable: bool) -> Option<Self> {
        let initdb = find("initdb", "/usr/lib/postgresql")?;
        // The path may have a link to one of them alone.
        let postgres = fs::canonicalize(&initdb)
            .unwrap()
            .with_file_name("postgres");
        let port = free_port();
        let user = unprivileged();
        let folder = folder(user);
        let data = folder.join("data");
        let mut init = as_user(Command::new(initdb), user);
        init.args(["--auth=trust", "--username=postgres", "--no-sync", "-D"]);
        let output = init.arg(&data).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "initdb: {output:?}");
        let sync = if durable { "on" } else { "off" };
        let command = format!(
            "{} -D {} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync={sync}",
            postgres.display(),
            data.display(),
            folder.display(),
        );
        let mut server = Self::new(folder, &command, user, port);
        server.start();
        Some(server)
    }

    /// `None`, and a word about it, where Redis is not installed. It syncs with every write.
    pub(crate) fn redis(cluster: bool) -> Option<Self> {
        let program = find("redis-server", "/usr/bin")?;
        let port = free_port();
        let folder = folder(None);
        let bus = free_port();
        let cluster = if cluster { "yes" } else { "no" };
        let command = format!(
            "{} --port {port} --bind 127.0.0.1 --appendonly yes --appendfsync always \
             --cluster-enabled {cluster} --cluster-port {bus}",
            program.display(),
        );
        let mut server = Self::new(folder, &command, None, port);
        server.bus = bus;
        server.start();
        Some(server)
    }

    fn new(folder: PathBuf, command: &str, user: Option<(u32, u32)>, port: u16) -> Self {
        Self {
            folder,
            command: command.split(' ').map(str::to_owned).collect(),
            user,
            port,
            bus: 0,
            running: None,
        }
    }

    /// Returns once the server listens.
    pub(crate) fn start(&mut self) {
        let mut keeper = as_user(Command::new("sh"), self.user);
        keeper.args(["-c", KEEPER, "keeper"]).arg(&self.folder);
        keeper.args(&self.command).current_dir(&self.folder);
        self.running = Some(keeper.stdin(Stdio::piped()).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns once the server has ended. Its data stays.
    pub(crate) fn stop(&mut self) {
        if let Some(mut keeper) = self.running.take() {
            keeper.stdin.take().unwrap().write_all(b"keep\n").unwrap();
            keeper.wait().unwrap();
        }
    }

    /// Restarts with more arguments, in which `@` is the server's folder, and with these files in it.
    pub(crate) fn restart_with(&mut self, files: &[(&str, &str)], arguments: &str) {
        self.stop();
        for (name, content) in files {
            let path = self.folder.join(name);
            fs::write(&path, content).unwrap();
            // PostgreSQL refuses a key that others can read.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = self.user {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        let arguments = arguments.replace('@', &self.folder.display().to_string());
        self.command.extend(arguments.split(' ').map(str::to_owned));
        self.start();
    }

    /// Kills the server itself, as the kernel would, and starts it again on its data.
    pub(crate) fn kill_and_start(&mut self) {
        if let Some(mut keeper) = self.running.take() {
            keeper.stdin.take().unwrap().write_all(b"kill\n").unwrap();
            keeper.wait().unwrap();
        }
        self.start();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A program in the path, or in a version's folder of those that Debian keeps out of it.
fn find(program: &str, elsewhere: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = fs::read_dir(elsewhere).into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    let mut paths = folders.into_iter().map(|folder| folder.join(program));
    let found = paths.find(|path| path.exists());
    if found.is_none() {
        // Not with the output of the test, which is shown only where it fails.
        let _ = writeln!(
            std::io::stderr(),
            "\n*** {program} is not installed: the tests with it are SKIPPED ***\n"
        );
        assert!(
            std::env::var_os("REQUIRE_SERVERS").is_none(),
            "{program} is required and not installed"
        );
    }
    found
}

/// PostgreSQL refuses to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = ["postgres:", "nobody:"]
        .into_iter()
        .find_map(|name| users.lines().find(|line| line.starts_with(name)))
        .expect("a user that is not root");
    let mut ids = user.split(':').skip(2).map(|id| id.parse().unwrap());
    Some((ids.next().unwrap(), ids.next().unwrap()))
}

fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}

fn folder(user: Option<(u32, u32)>) -> PathBuf {
    let folder = temporary_path();
    fs::create_dir(&folder).unwrap();
    if let Some((user, group)) = user {
        chown(&folder, Some(user), Some(group)).unwrap();
    }
    folder
}

/// A path that nothing else uses.
pub(crate) fn temporary_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("gemini-webhooks-{}-{number}", std::process::id());
    Path::new(&std::env::temp_dir()).join(name)
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

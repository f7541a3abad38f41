// VirtualBox's headless front end for a computer whose kernel may not load VirtualBox's driver.
//
// VBoxSVC starts the program VBoxHeadless for each machine. VirtualBox's own one insists on /dev/vboxdrv; its library
// does not: given the flags that VirtualBox keeps for "driverless" machines, it emulates their CPU. The lab puts this
// program in the other one's place (dpkg-divert), and hands over to that one where the driver is there after all.

#include <dlfcn.h>
#include <err.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOLDER "/usr/lib/virtualbox/"

enum {
    TRY_DRIVER = 1 << 17, // iprt/initterm.h: RTR3INIT_FLAGS_TRY_SUPLIB, whose own flags begin at bit 18
    UNRESTRICTED = 1 << 18, // VBox/sup.h: SUPR3INIT_F_UNRESTRICTED
    DRIVERLESS = 1 << 20, // SUPR3INIT_F_DRIVERLESS
    DRIVERLESS_EMULATION = 1 << 21, // SUPR3INIT_F_DRIVERLESS_IEM_ALLOWED
};

static void *found(const char *library, const char *name)
{
    void *opened = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    void *address = opened ? dlsym(opened, name) : NULL;
    if (!address)
        errx(1, "%s", dlerror());
    return address;
}

// A machine that does not ask for an engine gets the emulating one, in whatever VirtualBox home this is.
static void let_machines_be_emulated(char **environment)
{
    char *command[] = {FOLDER "VBoxManage", "setextradata", "global", "VBoxInternal/HM/FallbackToIEM", "1", NULL};
    posix_spawn_file_actions_t quiet;
    pid_t pid;

    posix_spawn_file_actions_init(&quiet);
    for (int stream = 0; stream < 3; stream++)
        posix_spawn_file_actions_addopen(&quiet, stream, "/dev/null", O_RDWR, 0);
    if (posix_spawn(&pid, command[0], &quiet, NULL, command, environment) == 0)
        waitpid(pid, NULL, 0);
}

int main(int count, char **arguments, char **environment)
{
    if (access("/dev/vboxdrv", F_OK) == 0) {
        execv(FOLDER "VBoxHeadless.distrib", arguments);
        err(1, FOLDER "VBoxHeadless.distrib");
    }
    let_machines_be_emulated(environment);
    int (*begin)(int, char ***, uint32_t) = found(FOLDER "VBoxRT.so", "RTR3InitExe");
    int status = begin(count, &arguments, TRY_DRIVER | UNRESTRICTED | DRIVERLESS | DRIVERLESS_EMULATION);
    if (status < 0)
        errx(1, "VirtualBox's runtime does not begin: %d", status);
    int (*front_end)(int, char **, char **) = found(FOLDER "VBoxHeadless.so", "TrustedMain");
    return front_end(count, arguments, environment);
}

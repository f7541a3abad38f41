/* Writes its last argument into the file of its first one, which is mapped for shared writing. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

int main(int count, char **argument) {
    int file = open(argument[1], O_RDWR);
    size_t size = strlen(argument[count - 1]);
    char *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        return 1;
    memcpy(page, argument[count - 1], size);
    return msync(page, size, MS_SYNC) ? 2 : 0;
}

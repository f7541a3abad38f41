/* Sends every datagram that comes to a UDP port back to where it came from. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int count, char **words)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(words[count - 1]))}, there;
    int line = socket(AF_INET, SOCK_DGRAM, 0);
    char said[1500];

    if (bind(line, (struct sockaddr *)&here, sizeof here))
        return 1;
    for (;;) {
        socklen_t size = sizeof there;
        ssize_t length = recvfrom(line, said, sizeof said, 0, (struct sockaddr *)&there, &size);
        sendto(line, said, length, 0, (struct sockaddr *)&there, size);
    }
}

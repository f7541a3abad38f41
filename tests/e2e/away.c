/* Sends a datagram to an address and port, by a network card where one is named: what a program may do without any
   capability. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int count, char **words)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
    int line = socket(AF_INET, SOCK_DGRAM, 0), yes = 1;

    inet_pton(AF_INET, words[1], &there.sin_addr);
    setsockopt(line, SOL_SOCKET, SO_BROADCAST, &yes, sizeof yes);
    if (count > 3 && setsockopt(line, SOL_SOCKET, SO_BINDTODEVICE, words[3], strlen(words[3])))
        return 2;
    return sendto(line, "away", 4, 0, (struct sockaddr *)&there, sizeof there) == 4 ? 0 : 1;
}

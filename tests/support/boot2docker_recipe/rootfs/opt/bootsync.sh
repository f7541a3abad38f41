#!/bin/sh
# boot2docker's part of the boot.
data=/var/lib/boot2docker

/etc/init.d/data-disk
mkdir -p $data/etc $data/log
chown docker:docker $data
chown docker $data/log
if [ -s $data/etc/hostname ]; then hostname "$(cat $data/etc/hostname)"; fi

# version 1, as boot2docker mounts it: a folder for each controller
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
for controller in cpu cpuacct cpuset blkio memory devices freezer pids; do
    mkdir "/sys/fs/cgroup/$controller"
    mount -t cgroup -o $controller cgroup "/sys/fs/cgroup/$controller"
done

for certificate in $data/certs/*.pem $data/certs/*.crt; do
    if [ -f "$certificate" ]; then cat "$certificate" >>/etc/ssl/certs/ca-certificates.crt; fi
done
if [ -f $data/profile ]; then . $data/profile; fi
crond -L $data/log/crond.log

modprobe -q vboxsf # VBoxService and VBoxControl, which mount shared folders, are not in Debian

if [ -d $data/ssh ]; then rm -rf /usr/local/etc/ssh; else mv /usr/local/etc/ssh $data/; fi
ln -s $data/ssh /usr/local/etc/ssh
for type in "rsa -b 1024" ecdsa ed25519; do
    key=$data/ssh/ssh_host_${type%% *}_key
    [ -f "$key" ] || ssh-keygen -q -t $type -N '' -f "$key"
done
/usr/sbin/sshd -f /usr/local/etc/ssh/sshd_config

acpid -c /etc/acpi -l /dev/null

if [ -e $data/bootsync.sh ]; then sh $data/bootsync.sh; fi
env -i PATH="$PATH" /etc/init.d/docker start
if [ -e $data/bootlocal.sh ]; then sh $data/bootlocal.sh & fi

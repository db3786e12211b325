ARG V=1
FROM busybox:$V AS base
MAINTAINER me
ENV A=b C="d e" D=$A
LABEL x=y "multi word"='quoted $A'
ARG FOO=1
RUN echo $FOO
RUN ["echo","hi"]
EXPOSE 80 90/udp
COPY a.txt /x/
ADD d /d
WORKDIR w
USER app
VOLUME /v
HEALTHCHECK --interval=5s CMD true
SHELL ["/bin/sh","-ec"]
STOPSIGNAL 9
ONBUILD RUN echo trig
CMD echo hi
ENTRYPOINT ["x"]

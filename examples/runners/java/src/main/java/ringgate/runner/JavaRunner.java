package ringgate.runner;

import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;

/** The official runner with the filters of this package: Spring finds both. */
@SpringBootApplication(scanBasePackages = {"org.apache.apisix.plugin.runner", "ringgate.runner"})
public class JavaRunner {
    public static void main(String[] args) {
        new SpringApplicationBuilder(JavaRunner.class).web(WebApplicationType.NONE).run(args);
    }
}

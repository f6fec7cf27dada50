package ringgate.runner;

import com.google.gson.Gson;
import java.util.concurrent.ThreadLocalRandom;
import org.apache.apisix.plugin.runner.HttpRequest;
import org.apache.apisix.plugin.runner.HttpResponse;
import org.apache.apisix.plugin.runner.filter.PluginFilter;
import org.apache.apisix.plugin.runner.filter.PluginFilterChain;
import org.springframework.stereotype.Component;

/** Answers some requests itself, as the native plugin of that name does. */
@Component
public class FaultInjection implements PluginFilter {
    private static final Gson GSON = new Gson();

    /** The configuration, as it stands in the route's `value`. */
    private static class Conf {
        int http_status = 200;
        String body = "";
        int percentage = 100;
    }

    @Override
    public String name() {
        return "fault-injection";
    }

    @Override
    public void filter(HttpRequest request, HttpResponse response, PluginFilterChain chain) {
        Conf conf = GSON.fromJson(request.getConfig(this), Conf.class);
        if (ThreadLocalRandom.current().nextInt(100) >= conf.percentage) {
            chain.filter(request, response);
            return;
        }
        response.setStatusCode(conf.http_status);
        response.setBody(conf.body);
    }
}
